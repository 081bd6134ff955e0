"""Models of random weights on real vocabularies, in architectures whose memory is no plain KV cache."""

import struct
from collections.abc import Mapping

import numpy as np

from tests.support.gguf_file import ARRAY, Described, Entry, GgufFile

_F32, _F16, _UINT32, _INT32, _FLOAT = 0, 1, 4, 5, 6
_AS_F32 = ("ssm_conv1d", "shortconv.conv", "ssm_a", "ssm_d", "ssm_norm")
WIDTH, INNER, STATE = 64, 128, 16
WINDOW = 32
"""Of the model with a sliding window, in tokens."""

Figures = Mapping[str, int | float | list[int]]
Shapes = Mapping[str, tuple[int, ...]]


def _feed_forward(layer: int) -> Shapes:
    return {
        f"blk.{layer}.ffn_gate.weight": (128, WIDTH), f"blk.{layer}.ffn_up.weight": (128, WIDTH),
        f"blk.{layer}.ffn_down.weight": (WIDTH, 128),
    }  # fmt: skip


def _attention(layer: int, queries: int, head: int) -> Shapes:
    return {
        f"blk.{layer}.attn_q.weight": (queries, WIDTH), f"blk.{layer}.attn_k.weight": (head, WIDTH),
        f"blk.{layer}.attn_v.weight": (head, WIDTH), f"blk.{layer}.attn_q_norm.weight": (head,),
        f"blk.{layer}.attn_k_norm.weight": (head,),
    }  # fmt: skip


_MAMBA: Shapes = {
    name: shape
    for i in range(2)
    for name, shape in {
        f"blk.{i}.attn_norm.weight": (WIDTH,), f"blk.{i}.ssm_in.weight": (2 * INNER, WIDTH),
        f"blk.{i}.ssm_conv1d.weight": (INNER, 4), f"blk.{i}.ssm_conv1d.bias": (INNER,),
        f"blk.{i}.ssm_x.weight": (8 + 2 * STATE, INNER), f"blk.{i}.ssm_dt.weight": (INNER, 8),
        f"blk.{i}.ssm_dt.bias": (INNER,), f"blk.{i}.ssm_a": (INNER, STATE), f"blk.{i}.ssm_d": (INNER,),
        f"blk.{i}.ssm_out.weight": (WIDTH, INNER),
    }.items()
}  # fmt: skip

_LFM2: Shapes = {
    "token_embd_norm.weight": (WIDTH,), "blk.0.attn_norm.weight": (WIDTH,), "blk.0.ffn_norm.weight": (WIDTH,),
    "blk.0.shortconv.conv.weight": (WIDTH, 3), "blk.0.shortconv.in_proj.weight": (3 * WIDTH, WIDTH),
    "blk.0.shortconv.out_proj.weight": (WIDTH, WIDTH), "blk.1.attn_norm.weight": (WIDTH,),
    "blk.1.ffn_norm.weight": (WIDTH,), "blk.1.attn_output.weight": (WIDTH, WIDTH),
    **_feed_forward(0), **_feed_forward(1), **_attention(1, WIDTH, 32),
}  # fmt: skip

_QWEN35: Shapes = {
    "output_norm.weight": (WIDTH,),
    "blk.0.attn_norm.weight": (WIDTH,), "blk.0.post_attention_norm.weight": (WIDTH,),
    "blk.0.attn_qkv.weight": (6 * STATE, WIDTH), "blk.0.attn_gate.weight": (2 * STATE, WIDTH),
    "blk.0.ssm_conv1d.weight": (6 * STATE, 4), "blk.0.ssm_dt.bias": (2,), "blk.0.ssm_a": (2,),
    "blk.0.ssm_beta.weight": (2, WIDTH), "blk.0.ssm_alpha.weight": (2, WIDTH), "blk.0.ssm_norm.weight": (STATE,),
    "blk.0.ssm_out.weight": (WIDTH, 2 * STATE), "blk.1.attn_norm.weight": (WIDTH,),
    "blk.1.post_attention_norm.weight": (WIDTH,), "blk.1.attn_output.weight": (WIDTH, 64),
    **_feed_forward(0), **_feed_forward(1), **_attention(1, 128, 32),
}  # fmt: skip

_GEMMA3: Shapes = {
    name: shape
    for i in range(2)
    for name, shape in {
        **_feed_forward(i), **_attention(i, WIDTH, 32), f"blk.{i}.attn_norm.weight": (WIDTH,),
        f"blk.{i}.post_attention_norm.weight": (WIDTH,), f"blk.{i}.ffn_norm.weight": (WIDTH,),
        f"blk.{i}.post_ffw_norm.weight": (WIDTH,), f"blk.{i}.attn_output.weight": (WIDTH, WIDTH),
    }.items()
}  # fmt: skip

_PLAIN_ATTENTION = {
    "attn_q": (WIDTH, WIDTH),
    "attn_k": (32, WIDTH),
    "attn_v": (32, WIDTH),
    "attn_output": (WIDTH, WIDTH),
}
_SSM_HEADS, _CONVOLVED = 4, INNER + 2 * STATE
_MAMBA2 = {
    "ssm_in.weight": (INNER + _CONVOLVED + _SSM_HEADS, WIDTH), "ssm_conv1d.weight": (_CONVOLVED, 4),
    "ssm_conv1d.bias": (_CONVOLVED,), "ssm_dt.bias": (_SSM_HEADS,), "ssm_a": (_SSM_HEADS, 1),
    "ssm_d": (_SSM_HEADS, 1), "ssm_norm.weight": (1, INNER), "ssm_out.weight": (WIDTH, INNER),
}  # fmt: skip


def _block(layer: int, **shapes: tuple[int, ...]) -> Shapes:
    return {f"blk.{layer}.{name}": shape for name, shape in shapes.items()}


def _weights(shapes: Shapes) -> Shapes:
    return {f"{name}.weight": shape for name, shape in shapes.items()}


_NORMS: Shapes = {f"blk.{i}.{name}.weight": (WIDTH,) for i in range(2) for name in ("attn_norm", "ffn_norm")}
_MIXED: Shapes = {"output_norm.weight": (WIDTH,), **_NORMS, **_feed_forward(0), **_feed_forward(1)}

_JAMBA: Shapes = {
    **_MIXED,
    **{name: shape for name, shape in _MAMBA.items() if name.startswith("blk.0.")},
    **_block(0, **_weights({"ssm_dt_norm": (8,), "ssm_b_norm": (STATE,), "ssm_c_norm": (STATE,)})),
    **_block(1, **_weights(_PLAIN_ATTENTION)),
}
_GRANITE: Shapes = {**_MIXED, **_block(0, **_MAMBA2), **_block(1, **_weights(_PLAIN_ATTENTION))}
_FALCON: Shapes = {
    **{name.removesuffix(".weight") if "ffn_norm" in name else name: shape for name, shape in _MIXED.items()},
    **{name: shape for i in range(2) for name, shape in _block(i, **_MAMBA2, **_weights(_PLAIN_ATTENTION)).items()},
}
_RWKV_NORMS = (*(f"blk.{i}.{name}" for i in range(2) for name in ("attn_norm", "attn_norm_2", "time_mix_ln")),)
_RWKV7: Shapes = {
    f"{name}.{part}": (WIDTH,)
    for name in ("token_embd_norm", "output_norm", *_RWKV_NORMS)
    for part in ("weight", "bias")
} | {
    f"blk.{i}.{name}.weight": shape
    for i in range(2)
    for name, shape in {
        **{f"time_mix_{part}": (WIDTH,) for part in ("w0", "a0", "v0", "k_k", "k_a", "r_k")},
        **{f"time_mix_{part}1": (8, WIDTH) for part in "wavg"}, **{f"time_mix_{part}2": (WIDTH, 8) for part in "wavg"},
        **{f"time_mix_{part}": (WIDTH, WIDTH) for part in ("key", "value", "receptance", "output")},
        "time_mix_lerp_fused": (6, 1, 1, WIDTH), "channel_mix_lerp_k": (1, 1, WIDTH),
        "channel_mix_key": (128, WIDTH), "channel_mix_value": (WIDTH, 128),
    }.items()
}  # fmt: skip

_HEADS: Figures = {"attention.head_count": 2, "attention.head_count_kv": 1, "feed_forward_length": 128}
_SSM: Figures = {"ssm.conv_kernel": 4, "ssm.inner_size": INNER, "ssm.state_size": STATE, "ssm.time_step_rank": 8}

ARCHITECTURES: Mapping[str, tuple[Figures, Shapes]] = {
    "mamba": (
        {**_SSM, "attention.head_count": 0, "feed_forward_length": 0},
        {"output_norm.weight": (WIDTH,), **_MAMBA},
    ),
    "lfm2": ({**_HEADS, "attention.head_count_kv": [0, 1], "shortconv.l_cache": 3}, _LFM2),
    "qwen35": (
        {
            **_HEADS, **_SSM, "ssm.inner_size": 2 * STATE, "ssm.time_step_rank": 2, "ssm.group_count": 2,
            "full_attention_interval": 2, "rope.dimension_count": 16, "rope.dimension_sections": [4, 2, 2, 0],
            "attention.key_length": 32, "attention.value_length": 32,
        },
        _QWEN35,
    ),
    "gemma3": (
        {
            **_HEADS, "attention.key_length": 32, "attention.value_length": 32, "attention.sliding_window": WINDOW,
            "attention.sliding_window_pattern": 2,
        },
        {"output_norm.weight": (WIDTH,), **_GEMMA3},
    ),
}  # fmt: skip
"""Recurrent, two hybrids, and attention with a window in every other layer."""

_SSM_2: Figures = {**_SSM, "ssm.time_step_rank": _SSM_HEADS, "ssm.group_count": 1}
_RANKS = ("decay", "iclr", "value_residual_mix", "gate")
MORE_ARCHITECTURES: Mapping[str, tuple[Figures, Shapes]] = {
    "jamba": ({**_HEADS, **_SSM, "attention.head_count_kv": [0, 1]}, _JAMBA),
    "granitehybrid": ({**_HEADS, **_SSM_2, "attention.head_count_kv": [0, 1], "rope.dimension_count": 32}, _GRANITE),
    "falcon-h1": ({**_HEADS, **_SSM_2}, _FALCON),
    "rwkv7": (
        {
            **{f"attention.{name}_lora_rank": 8 for name in _RANKS}, "attention.head_count": 0, "wkv.head_size": 64,
            "attention.layer_norm_epsilon": 1e-5, "feed_forward_length": 128, "token_shift_count": 2,
        },
        {"output.weight": (0, WIDTH), **_RWKV7},
    ),
}  # fmt: skip
"""Further ones that people have, which differ in how the state is laid out; 0 rows are those of the vocabulary."""


def random_model(file: GgufFile, architecture: str, seed: int = 1) -> GgufFile:
    """Return a whole model of the vocabulary ``file``, of two layers."""
    figures, shapes = {**ARCHITECTURES, **MORE_ARCHITECTURES}[architecture]
    figures = {"block_count": 2, "context_length": 4096, "embedding_length": WIDTH, **figures}
    size = len(file.find("tokenizer.ggml.tokens").items())
    entries = [Entry.text("general.architecture", architecture.encode())]
    entries += [_entry(f"{architecture}.{key}", value) for key, value in figures.items()]
    entries.append(Entry.scalar(f"{architecture}.attention.layer_norm_rms_epsilon", _FLOAT, 1e-6))
    numbers = np.random.default_rng(seed)
    tensors: list[Described] = []
    data = bytearray()
    for name, rows in {"token_embd.weight": (size, WIDTH), **shapes}.items():
        shape = tuple(count or size for count in rows)
        kind = _F16 if len(shape) == 2 and not any(part in name for part in _AS_F32) else _F32
        tensors.append(Described(name.encode(), tuple(reversed(shape)), kind, len(data)))
        data += _values(numbers, name, shape).astype(np.float16 if kind == _F16 else np.float32).tobytes()
        data += bytes(-len(data) % 32)
    return GgufFile(file.put(*entries).entries, tuple(tensors), bytes(data))


def _values(numbers: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    values = numbers.standard_normal(shape)
    if "ssm_a" in name and "alpha" not in name:  # a rate of decay
        return -np.abs(values) * 0.5 - 0.01
    if "ssm_dt" in name or "ssm_x" in name:  # a state grows without end where its inputs are large
        return values * 0.1
    return values * (0.3 if len(shape) == 2 else 1.0)


def _entry(key: str, value: float | list[int]) -> Entry:
    if isinstance(value, list):
        return Entry(key.encode(), ARRAY, struct.pack(f"<IQ{len(value)}i", _INT32, len(value), *value))
    return Entry.scalar(key, _FLOAT if isinstance(value, float) else _UINT32, value)
