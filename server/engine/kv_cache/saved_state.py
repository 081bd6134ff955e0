"""A sequence state as a file: its fingerprint, and a digest that detects damage. Pure.

llama.cpp believes most of what a state says and may end the process over it. So a file begins with the fingerprint of
all that it was computed with and a digest of its content, and what does not match never gets there.
"""

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass

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


def fingerprint(identity: str, tokens: Iterable[int]) -> Fingerprint:
    """Return the fingerprint of ``tokens`` computed by the code of ``identity``."""
    parts = (f"{FORMAT}", f"{len(identity)}", identity, *map(str, tokens))
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
