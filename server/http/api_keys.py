"""API keys: how they are written, and which one a secret is."""

import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from glmserve.http.request_record import Limits

_KEY = re.compile(r"(?:([A-Za-z0-9_.-]{1,64}):)?([!-9;-~]{8,256})")
_LIMIT = re.compile(r"(requests|tokens|concurrent)=([0-9]{1,12})")
_FIELDS = {"requests": "requests_per_minute", "tokens": "tokens_per_minute", "concurrent": "concurrent"}


class KeyFormatError(ValueError):
    """A key is not written as one; the message does not quote it."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key. The secret itself is not kept, so that nothing can print it."""

    id: str
    """Its name, or else the beginning of its hash, for logs and metrics."""
    digest: bytes
    """SHA-256 of the secret."""
    limits: Limits


class ApiKeyStore:
    """The keys of a server; without any, every request is allowed."""

    def __init__(self, keys: Sequence[ApiKey]) -> None:
        """Hold ``keys``.

        Raises:
            KeyFormatError: two are equal, or have one name.
        """
        self._keys = tuple(keys)
        for what, values in (("name", [key.id for key in keys]), ("secret", [key.digest for key in keys])):
            if len(set(values)) < len(values):
                raise KeyFormatError(f"two API keys have the same {what}")

    def __len__(self) -> int:
        return len(self._keys)

    def knows(self, key_id: str) -> bool:
        """Return whether there is a key of this id; without any keys, the id of all callers is empty."""
        return any(key.id == key_id for key in self._keys) if self._keys else not key_id

    def find(self, secret: bytes) -> ApiKey | None:
        """Return the key with this secret.

        All are compared, and each in constant time: how long it takes says nothing about any of them.
        """
        digest = hashlib.sha256(secret).digest()
        found = [key for key in self._keys if hmac.compare_digest(key.digest, digest)]
        return found[0] if found else None


def parse_keys(lines: Iterable[str], defaults: Limits, where: str) -> list[ApiKey]:
    """Return the keys in ``lines``: ``[NAME:]SECRET [requests=N] [tokens=N] [concurrent=N] [# comment]`` in each.

    Args:
        lines: those of a file, or the values of a setting. Empty ones are skipped.
        defaults: the limits of a key that does not say its own.
        where: what to call the source in an error.

    Raises:
        KeyFormatError: a line is written otherwise.
    """
    keys = []
    for number, line in enumerate(lines, 1):
        # A "#" within a secret is part of it.
        words = f" {line}".partition(" #")[0].split()
        if words:
            keys.append(_parse(words, defaults, f"{where}, line {number}"))
    return keys


def _parse(words: Sequence[str], limits: Limits, where: str) -> ApiKey:
    written = _KEY.fullmatch(words[0])
    if written is None:
        raise KeyFormatError(
            f"{where}: a key has 8 to 256 printable ASCII characters without blank and colon; NAME: may precede it"
        )
    for word in words[1:]:
        limit = _LIMIT.fullmatch(word)
        if limit is None:
            raise KeyFormatError(
                f"{where}: after a key only requests=N, tokens=N, concurrent=N, or # and a comment are allowed"
            )
        limits = replace(limits, **{_FIELDS[limit[1]]: int(limit[2])})
    name, secret = written.groups()
    digest = hashlib.sha256(secret.encode()).digest()
    return ApiKey(name or f"key-{digest.hex()[:8]}", digest, limits)
