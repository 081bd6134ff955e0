"""How much memory a model needs: keys and values of each token, and the running state of each sequence. Pure.

llama.cpp decides both by architecture (n_embd_r and n_embd_s of llama-hparams.cpp). The figures here are upper bounds
where the file does not say which layers keep a state.
"""

from collections.abc import Sequence

from glmserve.engine.gguf.gguf_header import HEADS_PER_LAYER, ROTARY_SECTIONS, GgufHeader, Metadata, TensorEntry

_F32_BYTES = 4
_INTERVAL = "full_attention_interval"
_DELTA_NETS = ("qwen3next", "qwen35", "qwen35moe", "qwen4exp")
"""Architectures whose heads of state are as wide as their keys."""
_WKV_7 = ("rwkv7", "arwkv7")
_WKV_TILE = 64
"""Values that llama.cpp's kernel of RWKV-7 takes at once with AVX-512, past the end of a head if there are fewer."""
_SCALINGS = ("none", "linear", "yarn", "longrope")
"""Ways to scale positions that llama.cpp knows; it aborts over others."""
_UNKNOWN_STATE = 64 * 2**20
"""Assumed of an architecture that describes its state by none of the keys below: more than most need."""


def attention_heads(header: GgufHeader, architecture: str, layers: int, kv_heads: int) -> int:
    """Return the key and value heads of all layers together; some architectures have them in some layers only."""
    per_layer = header.arrays.get(architecture + HEADS_PER_LAYER)
    if per_layer is not None and per_layer.size:
        return int(per_layer.sum())
    interval = _number(header.metadata, f"{architecture}.{_INTERVAL}")
    return kv_heads * (layers // interval if interval else layers)


def state_bytes(header: GgufHeader, architecture: str, layers: int, heads: int) -> int:
    """Return the bytes of one sequence's running state, in all layers together.

    Args:
        header: of the file.
        architecture: one with a running state.
        layers: of the model.
        heads: of attention, by which some states are counted.
    """
    per_layer = header.arrays.get(architecture + HEADS_PER_LAYER)
    without_attention = int((per_layer == 0).sum()) if per_layer is not None else 0
    values = _values(header.metadata, architecture, heads)
    return values * _F32_BYTES * (without_attention or layers) if values else _UNKNOWN_STATE


def find_state_lie(header: GgufHeader, architecture: str) -> str:
    """Return the figure of a state, or of positions, over which llama.cpp ends the process; empty if there is none."""
    metadata = header.metadata
    if metadata.get(f"{architecture}.{_INTERVAL}", 1) == 0:
        return f"metadata {architecture}.{_INTERVAL} is 0"
    inner, state, heads = (
        _number(metadata, f"{architecture}.ssm.{key}") for key in ("inner_size", "state_size", "time_step_rank")
    )
    if architecture in _DELTA_NETS and (not inner or inner != state * heads):
        return f"impossible shape (a state of {inner} values in {heads} heads of {state})"
    if architecture in _WKV_7 and (size := _number(metadata, f"{architecture}.wkv.head_size")) % _WKV_TILE:
        return f"impossible shape (heads of {size} values, which must be a multiple of {_WKV_TILE})"
    return _rotary_lie(header, architecture)


def _rotary_lie(header: GgufHeader, architecture: str) -> str:
    scaling = header.metadata.get(f"{architecture}.rope.scaling.type", "none")
    if scaling not in _SCALINGS:
        return f"metadata {architecture}.rope.scaling.type is {str(scaling)[:40]!r}, not one of {', '.join(_SCALINGS)}"
    sections = header.arrays.get(architecture + ROTARY_SECTIONS)
    if sections is not None:
        size = [int(value) for value in sections] if sections.dtype.kind in "iu" else [0]
        rotary = _number(header.metadata, f"{architecture}.rope.dimension_count")
        if min(size, default=0) < 0 or not 0 < sum(size) <= (rotary or sum(size)) or sum(size) > 1 << 16:
            return f"metadata {architecture}{ROTARY_SECTIONS} is {size[:4]}, with {rotary} dimensions"
    return ""


def _values(metadata: Metadata, architecture: str, heads: int) -> int:
    """Return the numbers of one layer's state; 0 where none of the known keys is there."""

    def number(key: str) -> int:
        return _number(metadata, f"{architecture}.{key}")

    width, convolved = number("embedding_length"), max(0, number("ssm.conv_kernel") - 1)
    if size := number("wkv.head_size"):  # RWKV
        return width * (max(2, number("token_shift_count")) + size)
    if size := number("shortconv.l_cache"):  # LFM2
        return width * (size - 1)
    if size := number("kda.head_dim"):  # Kimi
        return heads * size * (3 * (convolved or 3) + size)
    inner, state = number("ssm.inner_size"), number("ssm.state_size")  # Mamba, and most hybrids
    return convolved * (inner + 2 * number("ssm.group_count") * state) + state * inner


def _number(metadata: Metadata, key: str) -> int:
    value = metadata.get(key)
    return value if isinstance(value, int) and value > 0 else 0


def layer_bytes_of(tensors: Sequence[TensorEntry], layers: int) -> tuple[int, ...]:
    """Return the size of each layer's weights."""
    totals = [0] * layers
    for tensor in tensors:
        parts = tensor.name.split(".")
        if parts[0] == "blk" and len(parts) > 1 and parts[1].isdigit() and int(parts[1]) < layers:
            totals[int(parts[1])] += tensor.nbytes
    return tuple(totals)
