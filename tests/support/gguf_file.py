"""A GGUF file taken apart and put together again, be it with lies."""

import struct
from dataclasses import dataclass, field, replace
from pathlib import Path

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""struct codes by number of enum gguf_type (gguf.h)."""
STRING, ARRAY = 8, 9


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of the metadata; the value is what stands in the file after its type."""

    key: bytes
    type: int
    value: bytes

    @staticmethod
    def scalar(key: str, kind: int, value: float) -> "Entry":
        return Entry(key.encode(), kind, struct.pack(f"<{SCALARS[kind]}", value))

    @staticmethod
    def text(key: str, value: bytes) -> "Entry":
        return Entry(key.encode(), STRING, packed(value))

    @staticmethod
    def array(key: str, kind: int, items: list[bytes], *, claimed: int | None = None) -> "Entry":
        """``items`` as they stand in the file; ``claimed`` is another number of them than there are."""
        count = len(items) if claimed is None else claimed
        return Entry(key.encode(), ARRAY, struct.pack("<IQ", kind, count) + b"".join(items))

    def items(self) -> list[bytes]:
        """What an array has, as it stands in the file."""
        kind = struct.unpack_from("<I", self.value)[0]
        at, found = 12, []
        while at < len(self.value):  # the count may be a lie
            size = 8 + struct.unpack_from("<Q", self.value, at)[0] if kind == STRING else struct.calcsize(SCALARS[kind])
            found.append(self.value[at : at + size])
            at += size
        return found


@dataclass(frozen=True, slots=True)
class Described:
    """One tensor as the header describes it."""

    name: bytes
    dimensions: tuple[int, ...]
    type: int
    offset: int


@dataclass(frozen=True, slots=True)
class GgufFile:
    """All of a file. The counts are what the header claims; None is the truth."""

    entries: tuple[Entry, ...]
    tensors: tuple[Described, ...]
    data: bytes = field(repr=False)
    version: int = 3
    entry_count: int | None = None
    tensor_count: int | None = None

    def write(self, path: Path) -> Path:
        counts = (
            len(self.tensors) if self.tensor_count is None else self.tensor_count,
            len(self.entries) if self.entry_count is None else self.entry_count,
        )
        parts = [b"GGUF", struct.pack("<IQQ", self.version, *counts)]
        parts += [packed(entry.key) + struct.pack("<I", entry.type) + entry.value for entry in self.entries]
        for tensor in self.tensors:
            parts += [packed(tensor.name), struct.pack("<I", len(tensor.dimensions))]
            parts += [struct.pack("<Q", dimension % 2**64) for dimension in tensor.dimensions]
            parts += [struct.pack("<IQ", tensor.type, tensor.offset % 2**64)]
        head = b"".join(parts)
        path.write_bytes(head + bytes(-len(head) % 32) + self.data)
        return path

    def find(self, key: str) -> Entry:
        return next(entry for entry in self.entries if entry.key == key.encode())

    def put(self, *changed: Entry) -> "GgufFile":
        """Replace entries of the same keys, and add the others at the end."""
        by_key = {entry.key: entry for entry in changed}
        kept = tuple(by_key.pop(entry.key, entry) for entry in self.entries)
        return replace(self, entries=(*kept, *by_key.values()))

    def drop(self, *keys: str) -> "GgufFile":
        return replace(self, entries=tuple(entry for entry in self.entries if entry.key.decode() not in keys))


def packed(text: bytes) -> bytes:
    """A string as it stands in the file."""
    return struct.pack("<Q", len(text)) + text


def read_gguf(path: Path) -> GgufFile:
    """Take apart a file that is as it should be."""
    data = path.read_bytes()
    _, version, tensor_count, entry_count = struct.unpack_from("<4sIQQ", data)
    at = 24

    def number(code: str) -> int:
        nonlocal at
        (value,) = struct.unpack_from(f"<{code}", data, at)
        at += struct.calcsize(f"<{code}")
        return int(value)

    def text() -> bytes:
        nonlocal at
        size = number("Q")
        at += size
        return data[at - size : at]

    def skip_value(kind: int) -> None:
        nonlocal at
        if kind == STRING:
            text()
        elif kind == ARRAY:
            inner, count = number("I"), number("Q")
            for _ in range(count):
                skip_value(inner)
        else:
            at += struct.calcsize(SCALARS[kind])

    entries = []
    for _ in range(entry_count):
        key, kind, start = text(), number("I"), at
        skip_value(kind)
        entries.append(Entry(key, kind, data[start:at]))
    tensors = []
    for _ in range(tensor_count):
        name, rank = text(), number("I")
        dimensions = tuple(number("Q") for _ in range(rank))
        tensors.append(Described(name, dimensions, number("I"), number("Q")))
    return GgufFile(tuple(entries), tuple(tensors), data[at + -at % 32 :], version)
