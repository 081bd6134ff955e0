"""The folder that keeps sequence states as files. A fault here costs time and never an answer.

llama.cpp believes most of what a state says and may end the process over it. So a file begins with the fingerprint of
all that it was computed with and a digest of its content, and what does not match never gets there.
"""

import hashlib
import logging
import os
import struct
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from glmserve.engine.files import remove_oldest, replace_file

MAGIC = b"glmstate"
FORMAT = 1
_HEADER = struct.Struct("<8sIQ32s32s")
HEADER_BYTES = _HEADER.size


class BadState(Exception):
    """The file is not the state that was asked for; the text follows the file's name."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Of the model, the build, the layout of the cache and the tokens: 32 bytes."""

    digest: bytes

    @property
    def file_name(self) -> str:
        """Name of the file that keeps this state."""
        return f"{self.digest[:16].hex()}.state"


def fingerprint(origin: str, tokens: Iterable[int]) -> Fingerprint:
    """Return the fingerprint of ``tokens`` computed by the model and build of ``origin``."""
    parts = (f"{FORMAT}", f"{len(origin)}", origin, *map(str, tokens))
    return Fingerprint(hashlib.sha256("\n".join(parts).encode()).digest())


def pack_header(key: Fingerprint, state: bytearray) -> bytes:
    """Return the header of ``state`` in its file."""
    return _HEADER.pack(MAGIC, FORMAT, len(state), key.digest, _digest(state))


def state_length(header: bytes, key: Fingerprint, file_bytes: int) -> int:
    """Return how many bytes of state follow ``header`` in a file of ``file_bytes``.

    Raises:
        BadState: the file is foreign, belongs to something else, or is cut off.
    """
    if len(header) != HEADER_BYTES:
        raise BadState("is cut off")
    magic, version, length, digest, _ = _HEADER.unpack(header)
    if (magic, version) != (MAGIC, FORMAT):
        raise BadState("is not a sequence state of this version")
    if digest != key.digest:
        raise BadState("belongs to another model, build or prefix")
    if HEADER_BYTES + length != file_bytes:
        raise BadState(f"has {file_bytes} bytes instead of {HEADER_BYTES + length}")
    return int(length)


def check_content(header: bytes, state: bytearray) -> None:
    """Compare ``state`` with the digest in ``header``. Raises BadState where it was changed."""
    if _HEADER.unpack(header)[4] != _digest(state):
        raise BadState("is damaged")


def _digest(state: bytearray) -> bytes:
    return hashlib.blake2b(state, digest_size=32).digest()


log = logging.getLogger(__name__)

STATE_SUFFIX = ".state"


class StateStore:
    """Files of sequence states by fingerprint; several engines may share one folder."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        """Keep states in ``path``, which is made when needed, and no more than ``most_bytes`` of them."""
        self._path = path
        self._most_bytes = most_bytes
        self._writing = threading.Lock()

    def load(self, key: Fingerprint) -> bytearray | None:
        """Return the state of ``key``, or None if no complete one is stored."""
        path = self._path / key.file_name
        try:
            if not path.is_file():
                return None
            with path.open("rb") as file:
                header = file.read(HEADER_BYTES)
                state = bytearray(state_length(header, key, os.fstat(file.fileno()).st_size))
                if file.readinto(state) != len(state):
                    raise BadState("is cut off")
            check_content(header, state)
        except (OSError, BadState) as error:
            reason = f"cannot be read ({error.strerror})" if isinstance(error, OSError) else error
            log.warning("%s %s; the prefix is computed again", path, reason)
            return None
        with suppress(OSError):
            os.utime(path)  # the one that was used longest ago goes first
        return state

    def save(self, key: Fingerprint, state: bytearray) -> None:
        """Keep ``state``; hashing and writing are done by a thread, which the end of the process waits for."""
        threading.Thread(target=self.write, args=(key, state), name="state-writer").start()

    def write(self, key: Fingerprint, state: bytearray) -> None:
        """Keep ``state``, or log why not."""
        try:
            with self._writing:
                self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
                if self._make_room(HEADER_BYTES + len(state), key):
                    replace_file(self._path / key.file_name, (pack_header(key, state), state))
                    log.info("a pinned prefix was saved: %.1f MB in %s", len(state) / 1e6, self._path)
        except OSError as error:
            log.warning("%s: a pinned prefix could not be saved: %s", self._path, error.strerror or error)

    def _make_room(self, needed: int, key: Fingerprint) -> bool:
        """Remove states, the one that was used longest ago first, until ``needed`` bytes fit."""
        if needed > self._most_bytes:
            log.warning("a pinned prefix has %.0f MB and is not saved (--pinned-disk-mb)", needed / 1e6)
            return False
        remove_oldest(self._path, STATE_SUFFIX, self._most_bytes - needed, keep=key.file_name)
        return True
