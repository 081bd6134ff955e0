"""Settings that say who may use the server: how they are written, and that none of them is empty by mistake. Pure."""

import re
from collections.abc import Mapping

from pydantic_core import PydanticCustomError

MUST_SAY_SOMETHING = frozenset(
    {"api_key", "api_key_file", "key_requests", "key_tokens", "key_concurrent", "cors_origin", "allowed_host"}
)
"""Settings that are never given empty: an empty shell variable would switch off a protection without a word."""

_ORIGIN_WORDS = ("*", "none", "local", "null")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s]+")
_HOST = re.compile(r"\*|[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|[0-9a-f.]*:[0-9a-f.]*:[0-9a-f:.]*")


def says_nothing(value: object) -> bool:
    """Return whether ``value``, as a source has it, is empty: blanks and commas name nothing."""
    if isinstance(value, str):
        return not value.strip(", \t\r\n")
    return isinstance(value, list | tuple) and all(map(says_nothing, value))


def empty_ones(values: Mapping[str, object]) -> tuple[str, ...]:
    """Return the settings of ``values`` that are empty and must not be."""
    return tuple(name for name, value in values.items() if name in MUST_SAY_SOMETHING and says_nothing(value))


def check_origins(values: tuple[str, ...]) -> tuple[str, ...]:
    """Return origins as browsers write them. Raises PydanticCustomError over what is none."""
    origins = tuple(value.lower().rstrip("/") for value in values)
    for origin in origins:
        if origin not in _ORIGIN_WORDS and not _ORIGIN.fullmatch(origin):
            raise PydanticCustomError("origin", "must be SCHEME://HOST[:PORT], local, * or none")
    return origins


def check_hosts(values: tuple[str, ...]) -> tuple[str, ...]:
    """Return host names in lower case. Raises PydanticCustomError over what is none, as one with a port."""
    hosts = tuple(value.lower().strip("[]").rstrip(".") for value in values)
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise PydanticCustomError("host", "must be a host name or an address without scheme and port, or *")
    return hosts
