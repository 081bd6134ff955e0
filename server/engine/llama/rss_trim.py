"""Gives back memory that llama.cpp has made resident and does not use.

Loading leaves two things in the resident set: the pages of the mapped model file, of which the CPU holds repacked
copies, and the KV cache, which is zeroed when it is made. Giving either back changes nothing that can be read: a page
of the file comes back from the page cache when it is used, and a dropped page of zeros comes back as zeros.
"""

import ctypes
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from mmap import MADV_DONTNEED
from pathlib import Path

import numpy as np

log = logging.getLogger(__name__)

CHUNK_BYTES = 2 * 2**20
"""Unit of scanning and releasing: a huge page, so that none has to be split."""

_MAPS = Path("/proc/self/maps")


@dataclass(frozen=True, slots=True)
class Mapping:
    """A line of /proc/self/maps."""

    start: int
    end: int
    access: str
    """As there: "rw-p" is private and writable."""
    name: str
    """Path of the file, or empty."""


def read_mappings(text: str) -> tuple[Mapping, ...]:
    """Parse ``text`` of /proc/self/maps."""
    mappings = []
    for line in text.splitlines():
        span, access, _offset, _device, _inode, *name = line.split(maxsplit=5)
        start, end = (int(address, 16) for address in span.split("-"))
        mappings.append(Mapping(start, end, access, name[0] if name else ""))
    return tuple(mappings)


def new_spans(before: tuple[Mapping, ...], after: tuple[Mapping, ...]) -> list[tuple[int, int]]:
    """Return the addresses of private memory without a file that are mapped ``after`` and were not ``before``.

    The kernel makes one mapping of neighbours, so a new one may show as an old one that has grown.
    """
    spans = [(m.start, m.end) for m in after if m.access == "rw-p" and not m.name]
    for old in before:
        below = [(start, min(end, old.start)) for start, end in spans]
        above = [(max(start, old.end), end) for start, end in spans]
        spans = [(start, end) for start, end in below + above if start < end]
    return spans


def release_file(path: Path) -> None:
    """Drop the pages of ``path`` from the resident set of this process; used ones are paged in again."""
    for mapping in read_mappings(_MAPS.read_text()):
        if mapping.name == str(path.resolve()):
            _drop(mapping.start, mapping.end - mapping.start)


@contextmanager
def zeros_released() -> Iterator[None]:
    """Release memory allocated inside that holds zeros alone; no other thread may be writing to it then."""
    before = read_mappings(_MAPS.read_text())
    yield
    released = sum(_release_zeros(*span) for span in new_spans(before, read_mappings(_MAPS.read_text())))
    log.debug("%d MiB of zero pages were released until they are written", released >> 20)


def _release_zeros(start: int, end: int) -> int:
    """Drop the chunks between the addresses that hold zeros alone; return their bytes."""
    first = -(-start // CHUNK_BYTES) * CHUNK_BYTES
    count = max(0, end // CHUNK_BYTES - first // CHUNK_BYTES)
    if not count:
        return 0
    memory = (ctypes.c_uint64 * (count * CHUNK_BYTES // 8)).from_address(first)
    chunks = np.ctypeslib.as_array(memory).reshape(count, -1)
    empty = [index for index, chunk in enumerate(chunks) if not chunk.any()]
    for index in empty:
        _drop(first + index * CHUNK_BYTES, CHUNK_BYTES)
    return len(empty) * CHUNK_BYTES


def _drop(address: int, size: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), MADV_DONTNEED):
        log.debug("memory could not be released: madvise failed with errno %d", ctypes.get_errno())
