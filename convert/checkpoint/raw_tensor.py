"""The place of tensors in files of any format, and reading them."""

import os
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glmserve.convert.errors import CorruptFileError

BITS = {
    "F64": 64,
    "F32": 32,
    "F16": 16,
    "BF16": 16,
    "I64": 64,
    "I32": 32,
    "I16": 16,
    "I8": 8,
    "U8": 8,
    "BOOL": 8,
}
"""Element types that are known, by the name that safetensors gives them."""

READABLE = frozenset({"F32", "F16", "BF16", "I8"})
"""Element types that become float32 exactly."""

_READ_AHEAD = 32 << 20
"""Bytes that the system is asked to fetch while others are worked on: more than all threads take meanwhile."""

_LARGE_READ = 1 << 17
"""Bytes of a read that others follow; single rows are read here and there."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies, row after row, in bytes from the start of its file."""

    path: Path
    dtype: str
    """As safetensors spells it: F32, F16, BF16, …"""
    shape: tuple[int, ...]
    offset: int
    nbytes: int


def bytes_of(dtype: str, shape: tuple[int, ...]) -> int:
    """Return the bytes of a tensor whose type is among ``BITS``."""
    return prod(shape) * BITS[dtype] // 8


def read_exactly(path: Path, offset: int, nbytes: int) -> NDArray[np.uint8]:
    """Read bytes of a file; raises CorruptFileError where it is too short or cannot be read."""
    # A handle of its own for each read keeps threads independent, and costs microseconds per megabytes read.
    buffer = np.empty(nbytes, dtype=np.uint8)
    view = buffer.data
    try:
        with path.open("rb", buffering=0) as file:
            if nbytes >= _LARGE_READ and hasattr(os, "posix_fadvise"):
                # A new handle reads ahead little by little. What follows is most often what is asked for next.
                os.posix_fadvise(file.fileno(), offset, nbytes + _READ_AHEAD, os.POSIX_FADV_WILLNEED)
            file.seek(offset)
            while view:
                got = file.readinto(view)
                if not got:
                    raise CorruptFileError(path, f"it ends at byte {offset + nbytes - len(view)}")
                view = view[got:]
    except OSError as error:
        raise CorruptFileError(path, f"it cannot be read ({error.strerror})") from error
    return buffer


def to_float32(raw: NDArray[np.uint8], dtype: str) -> NDArray[np.float32]:
    """Return the values of ``raw``, whose type is among ``READABLE``."""
    if dtype == "F32":
        return raw.view("<f4").astype(np.float32, copy=False)
    if dtype == "F16":
        return _half_to_float32(raw)
    if dtype == "I8":
        return raw.view(np.int8).astype(np.float32)
    widened = raw.view("<u2").astype(np.uint32)  # BF16 is the upper half of a float32
    widened <<= 16
    return widened.view(np.float32)


def _half_to_float32(raw: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Widen float16 with numpy's results, in an eighth of its time."""
    # Sign, exponent and fraction move to their places in a float32; the multiplication makes up for the difference
    # of the two exponent biases, and normalises what was subnormal. All of it is exact.
    widened = raw.view("<i2").astype(np.int32)
    widened <<= 13
    widened &= ~0x70000000
    values = widened.view(np.float32)
    values *= np.float32(2.0**112)
    if values.size and max(values.max(), -values.min()) >= 65536:  # NaN or infinity, which this way become finite
        return raw.view("<f2").astype(np.float32)
    return values
