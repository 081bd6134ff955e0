"""Looks at a GGUF file before llama.cpp does, which answers a bad one with abort()."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType

from glmserve.engine.errors import ModelLoadError
from glmserve.engine.gguf.architectures import EMBEDDING_ARCHITECTURES, OURS, RUNNING_STATE, not_served
from glmserve.engine.gguf.chat_template import FileTemplate, file_template
from glmserve.engine.gguf.gguf_header import (
    HEADS_PER_LAYER,
    GgufHeader,
    HeaderError,
    Metadata,
    TensorEntry,
    read_header,
)
from glmserve.engine.gguf.memory_facts import attention_heads, find_state_lie, layer_bytes_of, state_bytes
from glmserve.engine.gguf.prompt_format import FormatInference, infer_prompt_format

# llama.cpp checks some figures by assertions, which end the process: when it loads, or at the first token. The bounds
# below were found by loading thousands of files that lie (tests/soak/test_hostile_files.py).
_MOST_LAYERS = 512
"""LLAMA_MAX_LAYERS of llama-hparams.h."""


@dataclass(frozen=True, slots=True)
class _Range:
    """A whole number, or with ``real`` any finite one, from ``least`` to ``most``."""

    least: float
    most: float
    real: bool = False

    def admits(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or isinstance(value, float) > self.real:
            return False
        return math.isfinite(value) and self.least <= value <= self.most

    def __str__(self) -> str:
        return f"a {'' if self.real else 'whole '}number from {self.least:g} to {self.most:g}"


_NONE = _Range(0, 0)
_PER_LAYER = _Range(0, 1 << 16)
_FACTOR = _Range(0, 1e12, real=True)

_RANGES: Mapping[str, _Range] = {
    "block_count": _Range(1, _MOST_LAYERS),
    "context_length": _Range(1, 1 << 24),
    "embedding_length": _Range(1, 1 << 20),
    "feed_forward_length": _Range(1, 1 << 24),
    "attention.head_count": _Range(1, 1 << 16),
    "attention.head_count_kv": _Range(1, 1 << 16),
    "attention.layer_norm_epsilon": _Range(0, 1, real=True),
    "attention.layer_norm_rms_epsilon": _Range(0, 1, real=True),
    "rope.freq_base": _FACTOR,
    "rope.scaling.factor": _FACTOR,
    "rope.scale_linear": _FACTOR,
    "rope.scaling.attn_factor": _FACTOR,
    "expert_count": _NONE,
    "expert_used_count": _NONE,
    "expert_group_count": _NONE,
    "expert_group_used_count": _NONE,
    "nextn_predict_layers": _NONE,
}
"""By key, without the architecture in front. A missing key is not checked."""

_COMMON = {key: wanted for key, wanted in _RANGES.items() if wanted != _NONE} | {
    "attention.key_length": _Range(1, 1 << 16),
    "attention.value_length": _Range(1, 1 << 16),
    "rope.dimension_count": _Range(0, 1 << 16),
}
"""What holds for every architecture."""


def find_lie(metadata: Metadata, architecture: str) -> str:
    """Return the impossible value in ``metadata`` as part of a message; empty if there is none.

    Of an architecture that is not ours less is known: it may have experts, heads of any size, and figures per layer.
    """
    said = {key: value for key in _all_keys() if (value := metadata.get(f"{architecture}.{key}")) is not None}
    if architecture not in (*OURS, *EMBEDDING_ARCHITECTURES):
        return _range_lie({key: value for key, value in said.items() if value != ()}, architecture, _COMMON)
    if lie := _range_lie(said, architecture, _RANGES):
        return lie
    width, heads = said.get("embedding_length"), said.get("attention.head_count")
    if not isinstance(width, int) or not isinstance(heads, int) or width % heads:
        return f"impossible shape (width {_shown(width)}, {_shown(heads)} heads)"
    kv_heads = said.get("attention.head_count_kv", heads)
    if not isinstance(kv_heads, int) or heads % kv_heads:
        return f"impossible shape ({heads} heads share {_shown(kv_heads)} of keys and values)"
    return _head_lie(said, architecture, width // heads)


def _range_lie(said: Metadata, architecture: str, ranges: Mapping[str, _Range]) -> str:
    for key, wanted in ranges.items():
        if architecture in RUNNING_STATE and said.get(key) == 0:  # it may lack attention, or feed-forward layers
            continue
        if key in said and not wanted.admits(said[key]):
            return f"metadata {architecture}.{key} is {_shown(said[key])} and must be {wanted}"
    return ""


_HEAD_KEYS = ("attention.key_length", "attention.value_length")
_ROTARY = "rope.dimension_count"


def _all_keys() -> tuple[str, ...]:
    return (*_RANGES, *_HEAD_KEYS, _ROTARY)


def _head_lie(said: Metadata, architecture: str, head_size: int) -> str:
    for key in _HEAD_KEYS:
        if said.get(key, head_size) != head_size:
            return f"metadata {architecture}.{key} is {_shown(said[key])} where its heads have {head_size} values"
    rotary = said.get(_ROTARY, head_size)
    if not isinstance(rotary, int) or not _Range(2, head_size).admits(rotary) or rotary % 2:
        return f"metadata {architecture}.{_ROTARY} is {_shown(rotary)} and must be even and at most {head_size}"
    return ""


def _shown(value: object) -> str:
    return repr(value)[:40]


_POOLINGS = (1, 2, 3)
"""enum llama_pooling_type of llama.h: mean, first token, last token. 0 is none."""

_RANKS = 4
"""The value of a reranker, whose head scores the first token."""

_HEAD = "cls.output.weight"

_F16_BYTES = 2

_BESIDE = {"adapter": "a LoRA adapter (--lora NAME=FILE)", "prefix": "a P-Tuning prefix (--prefix NAME=FILE)"}
"""Files that are no models, by general.type."""

# The last two are what llama.cpp makes of activations: as weights they end the process.
_NO_WEIGHTS = frozenset(GGMLQuantizationType[name] for name in ("I8", "I16", "I32", "I64", "F64", "Q8_1", "Q8_K"))

_ADDED = frozenset({"token_types.weight"})
"""Matrices that are added rather than multiplied by, as vectors are."""


@dataclass(frozen=True, slots=True)
class RopeFacts:
    """Rotary position embedding: adjacent pairs of the first ``dimensions`` of each head."""

    dimensions: int
    """0 where attention is biased by distance instead (ALiBi)."""
    base: float
    scale: float
    """Factor on the position: 1 / factor of a linear scaling."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Facts from the header of a model file. Sizes are in bytes of the file, before any repacking."""

    path: Path
    name: str
    architecture: str
    prompt_format: str
    """The file's own, or the inferred one; empty where neither is known."""
    context_train: int
    vocab_size: int
    size_bytes: int
    layer_bytes: tuple[int, ...]
    """Weights of each layer."""
    other_bytes: int
    """Embedding, final norm and output."""
    kv_heads: int
    head_size: int
    rope: RopeFacts
    kv_bytes_per_token: int
    """All layers together, at f16."""
    state_bytes: int = 0
    """Size of the state that a recurrent or hybrid model keeps of each sequence."""
    ranks: bool = False
    """Whether it is a reranker."""
    normalizes: bool = True
    """Whether the vectors of an embedding model are to have length 1."""
    format_inference: FormatInference = field(default_factory=FormatInference)
    """Where the prompt format comes from, in a file that was not made by ``glmserve convert``."""
    template: FileTemplate = field(default_factory=FileTemplate)
    """The file's own chat template."""

    @property
    def embeds(self) -> bool:
        """Whether it is an embedding model or a reranker, which generate nothing."""
        return self.architecture in EMBEDDING_ARCHITECTURES

    @property
    def layers(self) -> int:
        """Number of transformer layers."""
        return len(self.layer_bytes)


def check_gguf(path: Path) -> ModelFacts:
    """Read the header of ``path`` and reject values on which llama.cpp would abort.

    Raises:
        ModelLoadError: with one line that says what is wrong with the file and what to do.
    """
    return _facts(path, open_header(path))


def open_header(path: Path) -> GgufHeader:
    """Read the header of any GGUF file. Raises ModelLoadError."""
    if not path.is_file():
        raise ModelLoadError(f"{path.name}: there is no such file")
    try:
        return read_header(path)
    except HeaderError as error:
        raise ModelLoadError(f"{path.name}: not a readable GGUF file (it {error}); {error.advice}") from error
    except OSError as error:
        raise ModelLoadError(f"{path.name}: cannot be read ({error.strerror})") from error


def _facts(path: Path, header: GgufHeader) -> ModelFacts:
    metadata = header.metadata
    architecture = _text(metadata, "general.architecture")
    _check(path, header, architecture)
    embeds = architecture in EMBEDDING_ARCHITECTURES
    layers = metadata_number(path, metadata, f"{architecture}.block_count")
    heads, kv_heads = _heads(path, header, architecture)
    head_size, value_size = _head_sizes(path, metadata, architecture, heads)
    layer_bytes = layer_bytes_of(header.tensors, layers)
    inference = FormatInference() if embeds else infer_prompt_format(metadata)
    kv_values = attention_heads(header, architecture, layers, kv_heads) * (head_size + value_size)
    return ModelFacts(
        path=path,
        name=_text(metadata, "general.name"),
        architecture=architecture,
        prompt_format=inference.name,
        context_train=metadata_number(path, metadata, f"{architecture}.context_length"),
        vocab_size=len(_pieces(metadata)),
        size_bytes=path.stat().st_size,
        layer_bytes=layer_bytes,
        other_bytes=sum(tensor.nbytes for tensor in header.tensors) - sum(layer_bytes),
        kv_heads=kv_heads,
        head_size=head_size,
        rope=_rope(metadata, architecture, 0 if _has_alibi(architecture, layers) else head_size),
        kv_bytes_per_token=0 if embeds else kv_values * _F16_BYTES,
        state_bytes=state_bytes(header, architecture, layers, heads) if architecture in RUNNING_STATE else 0,
        ranks=embeds and metadata.get(f"{architecture}.pooling_type") == _RANKS,
        normalizes=metadata.get("glmserve.normalize_vectors") is not False,
        format_inference=inference,
        template=file_template(header),
    )


def _check(path: Path, header: GgufHeader, architecture: str) -> None:
    """Raise ModelLoadError where the model is not served here, or its figures contradict each other."""
    metadata = header.metadata
    if reason := not_served(architecture):
        raise ModelLoadError(f"{path.name}: architecture {architecture!r} is not served here: {reason}")
    if (kind := metadata.get("general.type")) in _BESIDE:
        raise ModelLoadError(f"{path.name}: is {_BESIDE[str(kind)]}; serve it together with its model")
    _check_vocabulary(path, metadata)
    metadata_number(path, metadata, f"{architecture}.block_count")
    _heads(path, header, architecture)
    width = metadata_number(path, metadata, f"{architecture}.embedding_length")
    if lie := find_lie(metadata, architecture) or find_state_lie(header, architecture):
        raise ModelLoadError(f"{path.name}: {lie}; convert the model again")
    if architecture in OURS and f"{architecture}.rope.dimension_sections" in metadata:
        raise ModelLoadError(f"{path.name}: is the language part of a model that sees images, which is not served here")
    if architecture in EMBEDDING_ARCHITECTURES:
        _check_pooling(path, header, architecture, width)
    _check_tensors(path, header.tensors)


def _head_sizes(path: Path, metadata: Metadata, architecture: str, heads: int) -> tuple[int, int]:
    """Return the values of a head's key, and of its value."""
    plain = metadata_number(path, metadata, f"{architecture}.embedding_length") // heads if heads else 0
    key, value = (_real(metadata, f"{architecture}.attention.{part}_length", plain) for part in ("key", "value"))
    return int(key), int(value)


def _heads(path: Path, header: GgufHeader, architecture: str) -> tuple[int, int]:
    """Return the numbers of attention heads and of key and value heads; some architectures vary them by layer.

    A recurrent model may have none: (0, 0).
    """
    metadata, key = header.metadata, f"{architecture}.attention.head_count"
    if architecture in RUNNING_STATE and metadata.get(key, 0) == 0:
        return 0, 0
    heads = metadata_number(path, metadata, key, per_layer=architecture not in OURS)
    key = architecture + HEADS_PER_LAYER
    per_layer = header.arrays.get(key, np.zeros(0, np.int32))
    if per_layer.size and not (per_layer.dtype.kind in "iu" and all(_PER_LAYER.admits(int(n)) for n in per_layer)):
        raise ModelLoadError(
            f"{path.name}: metadata {key} has values that are not {_PER_LAYER}; convert the model again"
        )
    if architecture in OURS:
        return heads, metadata_number(path, metadata, key)
    return heads, heads if metadata.get(key, ()) == () else metadata_number(path, metadata, key)


def _check_pooling(path: Path, header: GgufHeader, architecture: str, width: int) -> None:
    """Raise ModelLoadError where the file does not say how a vector or a score is made of the vectors of the tokens."""
    pooling = header.metadata.get(f"{architecture}.pooling_type")
    if pooling not in (*_POOLINGS, _RANKS):
        raise ModelLoadError(
            f"{path.name}: metadata {architecture}.pooling_type does not say how a vector is made of those of the "
            "tokens (1 mean, 2 first, 3 last); convert the model again, from a folder that has 1_Pooling/config.json"
        )
    if pooling != _RANKS:
        return
    labels = header.metadata.get(f"{architecture}.classifier.output_labels", (b"",))
    shapes = {tensor.name: tensor.shape for tensor in header.tensors}
    # A vector has as many dimensions as the file gives it: a head of one label may be stored as a plain vector.
    if not isinstance(labels, tuple) or len(labels) > 1 or shapes.get(_HEAD) not in ((1, width), (width,)):
        raise ModelLoadError(
            f"{path.name}: is a classifier, but not of one label as a reranker is (tensor {_HEAD} has "
            f"{list(shapes.get(_HEAD, ()))}); convert the model again"
        )


def _has_alibi(architecture: str, layers: int) -> bool:
    """Tell as llama.cpp does: a Baichuan has it unless it has the 32 layers of the 7B models."""
    return architecture == "baichuan" and layers != 32


def _rope(metadata: Metadata, architecture: str, most: int) -> RopeFacts:
    return RopeFacts(
        dimensions=min(most, int(_real(metadata, f"{architecture}.rope.dimension_count", most))),
        base=_real(metadata, f"{architecture}.rope.freq_base", 10000.0),
        scale=1.0 / _real(metadata, f"{architecture}.rope.scaling.factor", 1.0),
    )


def _real(metadata: Metadata, key: str, default: float) -> float:
    value = metadata.get(key, default)
    # A scale of nothing would be a division by zero further on.
    return float(value) if isinstance(value, int | float) and value > 0 else default


def _text(metadata: Metadata, key: str) -> str:
    value = metadata.get(key, "")
    return value if isinstance(value, str) else ""


def metadata_number(path: Path, metadata: Metadata, key: str, *, per_layer: bool = False) -> int:
    """Return a positive number of the metadata; 1 for one ``per_layer``, where that may be. Raises ModelLoadError."""
    value = metadata.get(key)
    if per_layer and value == ():
        return 1
    if not isinstance(value, int) or value < 1:
        raise ModelLoadError(
            f"{path.name}: metadata {key} is missing or not a positive number; convert the model again"
        )
    return value


def _pieces(metadata: Metadata) -> tuple[bytes, ...]:
    pieces = metadata.get("tokenizer.ggml.tokens")
    return pieces if isinstance(pieces, tuple) else ()


def _check_vocabulary(path: Path, metadata: Metadata) -> None:
    """Raise ModelLoadError where two tokens are equal as llama.cpp reads them: it would abort."""
    pieces = _pieces(metadata)
    if not pieces:
        raise ModelLoadError(f"{path.name}: has no vocabulary; convert the model again")
    seen: set[bytes] = set()
    for number, stored in enumerate(pieces):
        if b"\0" in stored:
            raise ModelLoadError(
                f"{path.name}: the token {stored[:64]!r} has a NUL character, where llama.cpp cuts it off; "
                "convert the model again"
            )
        piece = stored or b"[EMPTY_%d]" % number  # the name that llama.cpp gives it
        if piece in seen:
            raise ModelLoadError(
                f"{path.name}: the token {piece!r} stands twice in the vocabulary; convert the model again"
            )
        seen.add(piece)


def _check_tensors(path: Path, tensors: Sequence[TensorEntry]) -> None:
    size = path.stat().st_size
    for tensor in tensors:
        # llama.cpp adds what is of this type alone, and computes with no whole numbers at all.
        is_added = len(tensor.shape) == 1 or tensor.name in _ADDED
        if tensor.type in _NO_WEIGHTS or (is_added and tensor.type is not GGMLQuantizationType.F32):
            raise ModelLoadError(
                f"{path.name}: tensor {tensor.name} is of the type {tensor.type.name}; convert it again"
            )
        if tensor.offset + tensor.nbytes > size:
            raise ModelLoadError(f"{path.name}: cut off inside tensor {tensor.name}; copy or convert it again")
