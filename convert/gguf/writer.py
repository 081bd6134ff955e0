"""The part of a GGUF file before the tensor data (format version 3, little-endian).

``gguf.GGUFWriter`` opens its file itself, by name, so it cannot write to a locked file or to the standard output. It
writes whole tensors: eight of 266 MB take 303 MB of memory at the peak, and 71 MB when written in blocks of rows.
"""

import math
import struct
from dataclasses import dataclass

from gguf import GGUF_DEFAULT_ALIGNMENT, GGUF_MAGIC, GGUF_VERSION, GGUFValueType
from gguf import GGMLQuantizationType as GGMLType

from glmserve.convert.gguf_keys import Metadata, MetadataValue
from glmserve.convert.quantize.ggml_kernels import data_bytes


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
        return data_bytes(self.type, math.prod(self.shape))


def padding(nbytes: int) -> int:
    """Return the zero bytes that follow ``nbytes`` bytes."""
    return int(-nbytes % GGUF_DEFAULT_ALIGNMENT)


def encode_header(metadata: Metadata, tensors: tuple[TensorHeader, ...]) -> bytes:
    """Return everything before the tensor data, padded; the data of each tensor is to be padded as well."""
    out = bytearray(struct.pack("<IIQQ", GGUF_MAGIC, GGUF_VERSION, len(tensors), len(metadata)))
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
    if isinstance(value, bytes):
        return struct.pack("<IIQ", GGUFValueType.ARRAY, GGUFValueType.UINT8, len(value)) + value
    if isinstance(value, tuple):
        kind, _ = _scalar(value[0], in_array=True)
        items = b"".join(_scalar(item, in_array=True)[1] for item in value)
        return struct.pack("<IIQ", GGUFValueType.ARRAY, kind, len(value)) + items
    kind, data = _scalar(value, in_array=False)
    return struct.pack("<I", kind) + data


def _scalar(value: str | bool | int | float, *, in_array: bool) -> tuple[int, bytes]:
    if isinstance(value, str):
        return GGUFValueType.STRING, _string(value)
    if isinstance(value, bool):
        return GGUFValueType.BOOL, struct.pack("<?", value)
    if isinstance(value, int):
        # llama.cpp reads single numbers as uint32 and token types as an array of int32.
        kind = GGUFValueType.INT32 if in_array else GGUFValueType.UINT32
        return kind, struct.pack("<i" if in_array else "<I", value)
    return GGUFValueType.FLOAT32, struct.pack("<f", value)


def _string(text: str) -> bytes:
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data
