"""Bounds of the shapes in a model file's metadata within which llama.cpp computes instead of aborting. Pure.

llama.cpp checks some of its figures by assertions, which end the process: when it loads, or at the first token. The
rules were found by loading thousands of files that lie (tests/soak/test_hostile_files.py).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from glmserve.engine.gguf.gguf_header import Metadata

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
"""By key, without the architecture in front. What is not said is not checked."""


def find_lie(metadata: Metadata, architecture: str) -> str:
    """Return the impossible value in ``metadata`` as part of a message; empty if there is none."""
    said = {key: value for key in _all_keys() if (value := metadata.get(f"{architecture}.{key}")) is not None}
    for key, wanted in _RANGES.items():
        if key in said and not wanted.admits(said[key]):
            return f"metadata {architecture}.{key} is {_shown(said[key])} and must be {wanted}"
    width, heads = said.get("embedding_length"), said.get("attention.head_count")
    if not isinstance(width, int) or not isinstance(heads, int) or width % heads:
        return f"impossible shape (width {_shown(width)}, {_shown(heads)} heads)"
    kv_heads = said.get("attention.head_count_kv", heads)
    if not isinstance(kv_heads, int) or heads % kv_heads:
        return f"impossible shape ({heads} heads share {_shown(kv_heads)} of keys and values)"
    return _head_lie(said, architecture, width // heads)


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
