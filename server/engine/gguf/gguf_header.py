"""Reads the header of a GGUF file, and trusts none of its lengths.

The gguf package's reader makes an array object of every string, which takes seconds for a vocabulary, and trusts the
counts that it finds. This one goes through the same bytes once, and every read is bounded by the file.
"""

import codecs
import math
import mmap
import struct
from array import array
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType
from numpy.typing import NDArray

_PAGES = (b"<!doctype html", b"<html", b"<head", b"<?xml", b"<!--")
_LFS = b"version https://git-lfs"


@dataclass(frozen=True, slots=True)
class OtherContent:
    """The recognised content."""

    what: str
    """Follows the name of the file."""
    advice: str


_DOWNLOAD = "download the file again"
_CHECKPOINT = "give the folder of the checkpoint, which is converted"

_STARTS = (
    (b"PK\x03\x04", OtherContent("is a zip archive, as torch.save writes it", _CHECKPOINT)),
    *(
        (magic, OtherContent("is in a format that came before GGUF", "convert the checkpoint again"))
        for magic in (b"lmgg", b"fmgg", b"tjgg")
    ),
)


def other_content(start: bytes) -> OtherContent | None:
    """Recognise a file by its first bytes; None if it is unknown or empty."""
    for magic, known in _STARTS:
        if start.startswith(magic):
            return known
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 1 << 30:
        return OtherContent("is a safetensors file", _CHECKPOINT)
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    return _other_text(text) if text and _is_text(start) else None


def _other_text(text: bytes) -> OtherContent:
    if text.startswith(_LFS):
        return OtherContent("is a pointer of Git LFS, not the file itself", "get the file with git lfs pull")
    if text.lower().startswith(_PAGES):
        return OtherContent("is a web page (HTML), such as the error page of a download", _DOWNLOAD)
    kind = "JSON" if text[:1] in (b"{", b"[") else "text"
    shown = text[:40].decode("utf-8", "replace")
    return OtherContent(f"is {kind}, not a model; it begins with {shown!r}", _DOWNLOAD)


def _is_text(start: bytes) -> bool:
    """Tell whether the bytes are UTF-8 without control characters, up to a character that the end cuts off."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return False
    return not any(byte < 32 and byte not in b"\t\n\f\r" for byte in start)


Scalar = str | int | float | bool
Metadata = Mapping[str, Scalar | tuple[bytes, ...]]
"""Numbers and texts by key; of the arrays, only arrays of strings."""

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""struct codes by number of enum gguf_type (gguf.h)."""
_STRING, _ARRAY = 8, 9
_TOKEN_TYPES = "tokenizer.ggml.token_type"
HEADS_PER_LAYER = ".attention.head_count_kv"
ROTARY_SECTIONS = ".rope.dimension_sections"
_ALWAYS_READ = (HEADS_PER_LAYER, ROTARY_SECTIONS)
"""Ends of keys whose arrays of numbers are always read: which layers have attention, and how positions are turned."""
_MOST_ENTRIES = 1 << 16
"""Keys or tensors; the largest models have some thousands."""
_MOST_ITEMS = 1 << 22
"""Of one array; the largest vocabularies have about 10**5."""
_MOST_DIMENSIONS = 4
_DEFAULT_ALIGNMENT = 32


class HeaderError(Exception):
    """The file is not a GGUF file, is truncated, or has impossible values."""

    def __init__(self, what: str, advice: str = "convert it again") -> None:
        """The message is the path, the fault and the advice."""
        super().__init__(what)
        self.advice = advice


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of the file."""

    name: str
    shape: tuple[int, ...]
    """As numpy has it: the file lists the dimensions the other way round."""
    type: GGMLQuantizationType
    offset: int
    """From the start of the file."""
    nbytes: int


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """All of the header."""

    metadata: Metadata
    types: Mapping[str, GGUFValueType]
    """Type of each value in ``metadata``, as the file stores it."""
    tensors: tuple[TensorEntry, ...]
    token_types: Sequence[int] = ()
    """Of each token of the vocabulary, as enum llama_token_type of llama.h numbers them."""
    arrays: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    """Arrays of numbers that were asked for and are there."""
    metadata_end: int = 0
    """Where the list of tensors begins, from the start of the file."""


def read_header(path: Path, arrays: Collection[str] = ()) -> GgufHeader:
    """Read the header of ``path``; of its arrays of numbers, only the ones whose keys are in ``arrays``.

    Raises:
        HeaderError: in words that follow the file's name.
        OSError: the file cannot be opened.
    """
    with path.open("rb") as file:
        if not file.seek(0, 2):
            raise HeaderError("is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _Cursor(data, frozenset(arrays)).header()
            except struct.error:
                raise HeaderError("is cut off inside its header") from None
            except UnicodeDecodeError:
                raise HeaderError("has a name that is not UTF-8") from None


class _Cursor:
    def __init__(self, data: mmap.mmap, wanted: frozenset[str]) -> None:
        self._data = data
        self._at = 0
        self._wanted = wanted
        self._arrays: dict[str, NDArray[np.generic]] = {}

    def header(self) -> GgufHeader:
        if self._data[:4] != b"GGUF" and (other := other_content(self._data[:4096])):
            raise HeaderError(other.what, other.advice)
        magic, version = self._data[:4], self._skip(4)._number("I")
        if magic != b"GGUF" or version not in (2, 3):
            raise HeaderError("is not a GGUF file of version 2 or 3")
        tensors = self._count("tensors", _MOST_ENTRIES)
        keys = self._count("keys", _MOST_ENTRIES)
        metadata, types, token_types = {}, {}, array("i")
        for _ in range(keys):
            key, kind = self._name(), self._number("I")
            if key == _TOKEN_TYPES and kind == _ARRAY:
                token_types = self._whole_numbers()
            metadata[key] = self._value(kind, key)
            types[key] = GGUFValueType(kind)
        metadata_end = self._at
        found = [self._tensor() for _ in range(tensors)]
        alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1:
            raise HeaderError("has an impossible alignment")
        start = self._at + -self._at % alignment
        entries = tuple(make(start) for make in found)
        return GgufHeader(metadata, types, entries, token_types, self._arrays, metadata_end)

    def _whole_numbers(self) -> "array[int]":
        """Return the array of 32-bit numbers that comes next, without taking it; none where it is of another type."""
        kind, count = struct.unpack_from("<IQ", self._data, self._at)
        if _SCALARS.get(kind) not in ("i", "I") or count > _MOST_ITEMS:
            return array("i")
        start = self._at + struct.calcsize("<IQ")
        data = self._data[start : start + count * 4]
        return array("i", data if len(data) == count * 4 else b"")

    def _tensor(self) -> Callable[[int], TensorEntry]:
        """Return a maker: where the data starts is known only after the last tensor."""
        name = self._name()
        rank = self._number("I")
        if not 1 <= rank <= _MOST_DIMENSIONS:
            raise HeaderError(f"has a tensor {name[:64]!r} of {rank} dimensions")
        dimensions = [self._number("Q") for _ in range(rank)]
        kind, offset = self._number("I"), self._number("Q")
        try:
            block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        except (ValueError, KeyError):
            raise HeaderError(f"has a tensor {name[:64]!r} of unknown type {kind}") from None
        nbytes = math.prod(dimensions) // block * size
        shape = tuple(reversed(dimensions))
        return lambda start: TensorEntry(name, shape, GGMLQuantizationType(kind), start + offset, nbytes)

    def _value(self, kind: int, key: str) -> Scalar | tuple[bytes, ...]:
        if kind == _STRING:
            return self._text()
        if kind == _ARRAY:
            return self._array(key)
        return self._scalar(kind)

    def _array(self, key: str) -> tuple[bytes, ...]:
        kind = self._number("I")
        count = self._count("items of an array", _MOST_ITEMS)
        if kind == _STRING:
            return tuple(self._strings(count))
        if kind not in _SCALARS:
            raise HeaderError(f"has an array of unknown type {kind}")
        start = self._at
        self._skip(count * struct.calcsize(f"<{_SCALARS[kind]}"))
        if key in self._wanted or key.endswith(_ALWAYS_READ):
            self._arrays[key] = np.frombuffer(self._data[start : self._at], f"<{_SCALARS[kind]}")
        return ()

    def _scalar(self, kind: int) -> Scalar:
        if kind not in _SCALARS:
            raise HeaderError(f"has a value of unknown type {kind}")
        code = f"<{_SCALARS[kind]}"
        (value,) = struct.unpack_from(code, self._data, self._at)
        self._at += struct.calcsize(code)
        assert isinstance(value, int | float), value
        return value

    def _number(self, code: str) -> int:
        (value,) = struct.unpack_from(f"<{code}", self._data, self._at)
        self._at += struct.calcsize(f"<{code}")
        return int(value)

    def _count(self, of: str, most: int) -> int:
        count = self._number("Q")
        if count > most:
            raise HeaderError(f"claims {count} {of}, which cannot be")
        return count

    def _name(self) -> str:
        name = self._text()
        if "\0" in name:  # llama.cpp ends a name there, so it would find another key or tensor than this reader
            raise HeaderError(f"has a name with a NUL character ({name[:64]!r})")
        return name

    def _text(self) -> str:
        return self._bytes().decode("utf-8")

    def _bytes(self) -> bytes:
        length = self._number("Q")
        start = self._at
        self._skip(length)
        return self._data[start : self._at]

    def _strings(self, count: int) -> list[bytes]:
        """Return the next strings. A vocabulary has 65,024 of them, for which a call for each number takes long."""
        data, at, end, number = self._data, self._at, len(self._data), struct.Struct("<Q")
        strings = []
        for _ in range(count):
            start = at + number.size
            at = start + number.unpack_from(data, at)[0]
            if at > end:
                raise HeaderError("is cut off inside its header")
            strings.append(data[start:at])
        self._at = at
        return strings

    def _skip(self, length: int) -> "_Cursor":
        if self._at + length > len(self._data):
            raise HeaderError("is cut off inside its header")
        self._at += length
        return self
