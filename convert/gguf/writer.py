"""The part of a GGUF file before the tensor data (format version 3, little-endian)."""

import struct
from dataclasses import dataclass

from glmserve.convert.gguf_keys import Metadata, MetadataValue
from glmserve.convert.quantize.ggml_kernels import GGMLType

ALIGNMENT = 32
"""Bytes; the format's default, so no key says it."""

_MAGIC = b"GGUF"
_VERSION = 3
# Numbers of enum gguf_type (gguf.h).
_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """One tensor of the file."""

    name: str
    shape: tuple[int, ...]
    """(rows, columns) or (values,); the file itself lists the dimensions the other way round."""
    type: GGMLType

    @property
    def nbytes(self) -> int:
        """Bytes of data, without padding."""
        values = 1
        for size in self.shape:
            values *= size
        return self.type.nbytes(values)


def padding(nbytes: int) -> int:
    """Return the zero bytes that follow ``nbytes`` bytes."""
    return -nbytes % ALIGNMENT


def encode_header(metadata: Metadata, tensors: tuple[TensorHeader, ...]) -> bytes:
    """Return everything before the tensor data, padded; the data of each tensor is to be padded as well."""
    out = bytearray(_MAGIC)
    out += struct.pack("<IQQ", _VERSION, len(tensors), len(metadata))
    for key, value in metadata.items():
        out += _string(key) + _value(value)
    offset = 0
    for tensor in tensors:
        dimensions = tensor.shape[::-1]
        out += _string(tensor.name)
        out += struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, tensor.type, offset)
        offset += tensor.nbytes + padding(tensor.nbytes)
    return bytes(out) + bytes(padding(len(out)))


def _value(value: MetadataValue) -> bytes:
    if isinstance(value, tuple):
        kind, _ = _scalar(value[0], in_array=True)
        items = b"".join(_scalar(item, in_array=True)[1] for item in value)
        return struct.pack("<IIQ", _ARRAY, kind, len(value)) + items
    kind, data = _scalar(value, in_array=False)
    return struct.pack("<I", kind) + data


def _scalar(value: str | bool | int | float, *, in_array: bool) -> tuple[int, bytes]:
    if isinstance(value, str):
        return _STRING, _string(value)
    if isinstance(value, bool):
        return _BOOL, struct.pack("<?", value)
    if isinstance(value, int):
        # llama.cpp reads single numbers as uint32 and token types as an array of int32.
        return (_INT32, struct.pack("<i", value)) if in_array else (_UINT32, struct.pack("<I", value))
    return _FLOAT32, struct.pack("<f", value)


def _string(text: str) -> bytes:
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data
