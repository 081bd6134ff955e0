"""The GGUF format, as conversion writes and reads it: keys, families, block sizes, the header, a bounded reader.

``gguf.GGUFWriter`` opens its file itself, by name, so it cannot write to a locked file or to the standard output. It
writes whole tensors: eight of 266 MB take 303 MB of memory at the peak, and 71 MB when written in blocks of rows.
"""

import math
import struct
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, TypeAlias

import numpy as np
from gguf import GGML_QUANT_SIZES, GGUF_DEFAULT_ALIGNMENT, GGUF_MAGIC, GGUF_VERSION, GGUFReader, GGUFValueType
from gguf import GGMLQuantizationType as GGMLType
from numpy.typing import DTypeLike, NDArray

MetadataValue: TypeAlias = str | bool | int | float | bytes | tuple[str, ...] | tuple[int, ...] | tuple[float, ...]
"""Written as string, bool, uint32, float32, and arrays of uint8, string, int32 and float32."""

Metadata: TypeAlias = dict[str, MetadataValue]

PROMPT_FORMAT = "glmserve.prompt_format"
"""How messages become a prompt, by the name of a format that the server knows."""

PROMPT_PREFIX_IDS = "glmserve.prompt_prefix_ids"
"""Token ids that every prompt starts with; they cannot be produced from text."""

NORMALIZER = "glmserve.normalizer"
"""Name of the normaliser that the server applies before llama.cpp's tokenizer; absent if there is none."""

NORMALIZER_TABLE = "glmserve.normalizer_table"
"""SentencePiece's compiled replacements for it: zlib, then base64."""

SPACE_PREFIX = "glmserve.space_prefix"
"""With a normalizer: text starts with a space of the tokenizer's own."""

NORMALIZE_VECTORS = "glmserve.normalize_vectors"
"""Of an embedding model: whether its authors scale vectors to length 1."""

TRIM_SPACES = "glmserve.trim_spaces"
"""With a unigram vocabulary: how white space is dealt with, in words of ``glmserve.convert.vocab.unigram``."""

USER_TOKEN_ID = "glmserve.user_token_id"
ASSISTANT_TOKEN_ID = "glmserve.assistant_token_id"

PREFIX_LENGTH = "glmserve.prefix.length"
"""Tokens of a P-Tuning v2 prefix, in a file of its own."""

ORIGIN = "glmserve.origin"
"""A digest of the source checkpoint; see ``glmserve.convert.pipeline.origin_of``."""


def block_size(kind: GGMLType) -> int:
    """Return the number of values per block; a row must be a multiple of it."""
    values, _ = GGML_QUANT_SIZES[kind]
    return int(values)


def data_bytes(kind: GGMLType, count: int) -> int:
    """Return the bytes of ``count`` values, a multiple of the block size."""
    values, nbytes = GGML_QUANT_SIZES[kind]
    return int(count // values * nbytes)


class FamilyName(str, Enum):
    """Families by name. Of the families that chat, it is also the prompt format that the server uses for a file."""

    CHATGLM2 = "chatglm2"
    CHATGLM3 = "chatglm3"
    CODEGEEX2 = "codegeex2"
    GLM4 = "glm4"
    GLM4_0414 = "glm4-0414"
    BAICHUAN = "baichuan"
    BAICHUAN2 = "baichuan2"
    BERT = "bert"
    XLM_ROBERTA = "xlm-roberta"


_MAX_READS = 1 << 24
"""Values before the tensors' data; each becomes an array object. The largest vocabularies have some millions."""


class BoundedReader(GGUFReader):  # type: ignore[misc]
    """A GGUFReader whose work is bounded by the size of the file. Raises ValueError where the file claims more."""

    _reads = 0

    def _get(
        self, offset: int, dtype: DTypeLike, count: int = 1, override_order: Literal["I", "S", "<"] | None = None
    ) -> NDArray[Any]:
        self._reads += 1
        if offset + np.dtype(dtype).itemsize * int(count) > len(self.data) or self._reads > _MAX_READS:
            raise ValueError("it claims more than it holds")
        values: NDArray[Any] = super()._get(offset, dtype, count, override_order)
        return values


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
