"""Types of the values of settings, and checks of text values. Pure."""

import re
from collections.abc import Mapping
from enum import Enum

from pydantic_core import PydanticCustomError

from glmserve.convert.type_names import usual_name
from glmserve.engine.config import PER_GPU, parse_device

MUST_SAY_SOMETHING = frozenset(
    {"api_key", "api_key_file", "key_requests", "key_tokens", "key_concurrent", "cors_origin", "allowed_host"}
)
"""Settings that are never given empty: an empty shell variable would switch off a protection without a word."""

_ORIGIN_WORDS = ("*", "none", "local", "null")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s]+")
_UPSTREAM = re.compile(r"https?://[^/?#@\s]+(?:/[^?#\s]*)?")
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
    """Return origins as browsers write them. Raises PydanticCustomError for any other text."""
    origins = tuple(value.lower().rstrip("/") for value in values)
    for origin in origins:
        if origin not in _ORIGIN_WORDS and not _ORIGIN.fullmatch(origin):
            raise PydanticCustomError("origin", "must be SCHEME://HOST[:PORT], local, * or none")
    return origins


def check_hosts(values: tuple[str, ...]) -> tuple[str, ...]:
    """Return host names in lower case. Raises PydanticCustomError for any other text, such as one with a port."""
    hosts = tuple(value.lower().strip("[]").rstrip(".") for value in values)
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise PydanticCustomError("host", "must be a host name or an address without scheme and port, or *")
    return hosts


def check_upstream(value: str) -> str:
    """Return the address of an API without a slash at its end; empty is none. Raises PydanticCustomError."""
    if value and not _UPSTREAM.fullmatch(value):
        raise PydanticCustomError(
            "upstream", "must be http://HOST[:PORT]/v1 or https://…, without a key, ? and #; the key has settings"
        )
    return value.rstrip("/")


class LogLevel(str, Enum):
    """Lowest level of the log lines that are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(str, Enum):
    """Format of a log line."""

    TEXT = "text"
    JSON = "json"


class Quant(str, Enum):
    """Type of the weights where a checkpoint folder is served.

    AUTO is q8_0 for the embedded model, embedding models and rerankers, else q4_k_m.
    """

    AUTO = "auto"
    F16 = "f16"
    Q8_0 = "q8_0"
    Q6_K = "q6_k"
    Q5_K_M = "q5_k_m"
    Q4_K_M = "q4_k_m"
    Q4_0 = "q4_0"


class Hub(str, Enum):
    """Where checkpoints are downloaded from."""

    HUGGINGFACE = "huggingface"
    MODELSCOPE = "modelscope"


class Load(str, Enum):
    """When a model is loaded."""

    START = "start"
    FIRST_USE = "first_use"


def as_list(value: object) -> object:
    """Return a text with commas as its parts; anything else as it is."""
    return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value


def as_quant(value: object) -> object:
    """Return the usual name of a type of weights."""
    return usual_name(value) if isinstance(value, str) and not isinstance(value, Quant) else value


def as_device(value: object) -> object:
    """Return the usual form of a device. Raises PydanticCustomError."""
    if not isinstance(value, str):
        return value
    device = value.lower().replace(" ", "")
    try:
        parse_device(device)
    except ValueError:
        raise PydanticCustomError(
            "device", "Input should be auto, cpu, cuda, or CUDA devices such as cuda:0,cuda:1"
        ) from None
    return device


def as_engines(value: object) -> object:
    """Return the usual form of a number of engines. Raises PydanticCustomError."""
    text = str(value).lower()
    if text != PER_GPU and not (text.isdecimal() and 1 <= int(text) <= _MOST_ENGINES):
        raise PydanticCustomError("engines", f"Input should be {PER_GPU}, or a number from 1 to {_MOST_ENGINES}")
    return text


_MOST_ENGINES = 64
_REPLICAS = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?")


def as_replicas(value: object) -> object:
    """Return the usual form of a number of replicas. Raises PydanticCustomError."""
    text = str(value).replace(" ", "")
    if not _REPLICAS.fullmatch(text) or not 1 <= replica_bounds(text)[0] <= replica_bounds(text)[1]:
        raise PydanticCustomError(
            "replicas", "Input should be a number such as 2, or the least and the most such as 1-4"
        )
    return text


def replica_bounds(replicas: str) -> tuple[int, int]:
    """Return the least and the most of a number of replicas in its usual form."""
    least, _, most = replicas.partition("-")
    return int(least), int(most or least)
