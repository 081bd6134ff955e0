"""Which tensor gets which type: the mixtures of llama.cpp, as a pure function.

The rules are those of ``llama_tensor_get_type`` in llama.cpp's ``src/llama-quant.cpp`` (as vendored by
llama-cpp-python 0.3.36), restricted to what these models have: no experts, and a fused query/key/value matrix, which
llama.cpp counts as a value matrix, or a separate one for values. An integration test compares the outcome with
``llama_model_quantize`` itself.
"""

from dataclasses import dataclass
from enum import Enum

from gguf import GGMLQuantizationType as GGMLType
from gguf import LlamaFileType

from glmserve.convert.gguf_format import block_size


class QuantType(str, Enum):
    """A type that a user can choose; most of them are mixtures of tensor types."""

    F32 = "f32"
    F16 = "f16"
    BF16 = "bf16"
    Q8_0 = "q8_0"
    Q6_K = "q6_k"
    Q5_K_M = "q5_k_m"
    Q5_K_S = "q5_k_s"
    Q5_1 = "q5_1"
    Q5_0 = "q5_0"
    Q4_K_M = "q4_k_m"
    Q4_K_S = "q4_k_s"
    Q4_1 = "q4_1"
    Q4_0 = "q4_0"
    Q3_K_M = "q3_k_m"
    Q2_K = "q2_k"

    @property
    def base(self) -> GGMLType:
        """The type of the tensors that no rule singles out."""
        return _RECIPES[self].base

    @property
    def file_type(self) -> int:
        """``general.file_type``: the number in ``enum llama_ftype`` (llama.h)."""
        return int(_RECIPES[self].file_type)


@dataclass(frozen=True, slots=True)
class _Recipe:
    base: GGMLType
    file_type: LlamaFileType


_RECIPES: dict[QuantType, _Recipe] = {
    QuantType.F32: _Recipe(GGMLType.F32, LlamaFileType.ALL_F32),
    QuantType.F16: _Recipe(GGMLType.F16, LlamaFileType.MOSTLY_F16),
    QuantType.BF16: _Recipe(GGMLType.BF16, LlamaFileType.MOSTLY_BF16),
    QuantType.Q8_0: _Recipe(GGMLType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    QuantType.Q6_K: _Recipe(GGMLType.Q6_K, LlamaFileType.MOSTLY_Q6_K),
    QuantType.Q5_K_M: _Recipe(GGMLType.Q5_K, LlamaFileType.MOSTLY_Q5_K_M),
    QuantType.Q5_K_S: _Recipe(GGMLType.Q5_K, LlamaFileType.MOSTLY_Q5_K_S),
    QuantType.Q5_1: _Recipe(GGMLType.Q5_1, LlamaFileType.MOSTLY_Q5_1),
    QuantType.Q5_0: _Recipe(GGMLType.Q5_0, LlamaFileType.MOSTLY_Q5_0),
    QuantType.Q4_K_M: _Recipe(GGMLType.Q4_K, LlamaFileType.MOSTLY_Q4_K_M),
    QuantType.Q4_K_S: _Recipe(GGMLType.Q4_K, LlamaFileType.MOSTLY_Q4_K_S),
    QuantType.Q4_1: _Recipe(GGMLType.Q4_1, LlamaFileType.MOSTLY_Q4_1),
    QuantType.Q4_0: _Recipe(GGMLType.Q4_0, LlamaFileType.MOSTLY_Q4_0),
    QuantType.Q3_K_M: _Recipe(GGMLType.Q3_K, LlamaFileType.MOSTLY_Q3_K_M),
    QuantType.Q2_K: _Recipe(GGMLType.Q2_K, LlamaFileType.MOSTLY_Q2_K),
}

# llama.cpp's ``tensor_type_fallback``: the 32-value type that stands in for a 256-value one.
_STAND_IN: dict[GGMLType, GGMLType] = {
    GGMLType.Q2_K: GGMLType.Q4_0,
    GGMLType.Q3_K: GGMLType.Q4_0,
    GGMLType.Q4_K: GGMLType.Q5_0,
    GGMLType.Q5_K: GGMLType.Q5_1,
    GGMLType.Q6_K: GGMLType.Q8_0,
}

_ADDED_MATRICES = frozenset({"position_embd.weight", "token_types.weight"})
"""Added to the embedding of a token, as vectors are; llama.cpp never quantises them."""

_HEADS = frozenset({"cls.weight", "cls.output.weight"})
"""A reranker's head: a thousandth of its weights, and the last rounding before its score."""

_WIDE = (GGMLType.F32, GGMLType.F16, GGMLType.BF16)


def wanted_type(
    name: str,
    shape: tuple[int, ...],
    quant: QuantType,
    layer: int,
    n_layers: int,
    *,
    heads_per_group: int = 16,
    has_imatrix: bool = False,
    is_tied: bool = False,
) -> GGMLType:
    """Return the type the mixture asks for, whether or not the rows can have it: see ``fit_type``.

    Args:
        name: GGUF name, such as ``blk.3.ffn_down.weight``.
        shape: (rows, columns), or (values,) for a vector.
        quant: what the user asked for.
        layer: index of the tensor's layer; anything for tensors outside the layers.
        n_layers: layers of the model.
        heads_per_group: query heads that share a key/value group (ChatGLM2-6B: 32 / 2); matters to q2_k.
        has_imatrix: an importance matrix is used; matters to q4_0 and q5_0.
        is_tied: the embedding is the output matrix, too.
    """
    if len(shape) < 2 or name in _ADDED_MATRICES or name in _HEADS:
        return GGMLType.F32  # norms and biases: small, and llama.cpp computes them in F32
    kind = quant.base
    if kind in _WIDE:
        return kind
    if name == ("token_embd.weight" if is_tied else "output.weight"):
        kind = GGMLType.Q8_0 if quant is QuantType.Q8_0 else GGMLType.Q6_K
    elif "attn_qkv" in name or "attn_v." in name:
        kind = _attention_type(quant, layer, n_layers, heads_per_group)
    elif "ffn_down" in name:
        kind = _ffn_down_type(quant, layer, n_layers)
        if has_imatrix and layer < n_layers // 8:
            kind = _WITH_OFFSET.get(quant, kind)
    elif "attn_output" in name:
        kind = _ATTENTION_OUTPUT.get(quant, kind)
    return kind


def fit_type(wanted: GGMLType, shape: tuple[int, ...]) -> GGMLType:
    """Return ``wanted``, or llama.cpp's replacement when a row is not a multiple of its block size."""
    columns = shape[-1]
    if columns % block_size(wanted) == 0:
        return wanted
    stand_in = _STAND_IN.get(wanted, wanted)
    return stand_in if columns % block_size(stand_in) == 0 else GGMLType.F16


# What llama.cpp does against "craziness" of the first layers that it saw with an importance matrix only.
_WITH_OFFSET = {QuantType.Q4_0: GGMLType.Q4_1, QuantType.Q5_0: GGMLType.Q5_1}

_ATTENTION_OUTPUT = {QuantType.Q2_K: GGMLType.Q3_K, QuantType.Q3_K_M: GGMLType.Q4_K}


def _attention_type(quant: QuantType, layer: int, n_layers: int, heads_per_group: int) -> GGMLType:
    if quant is QuantType.Q2_K:
        return GGMLType.Q4_K if heads_per_group >= 4 else GGMLType.Q3_K
    if quant is QuantType.Q3_K_M:
        return GGMLType.Q5_K if layer < 2 else GGMLType.Q4_K
    if quant is QuantType.Q4_K_S and layer < 4:
        return GGMLType.Q5_K
    if quant in (QuantType.Q4_K_M, QuantType.Q5_K_M) and _deserves_more_bits(layer, n_layers):
        return GGMLType.Q6_K
    return quant.base


def _ffn_down_type(quant: QuantType, layer: int, n_layers: int) -> GGMLType:
    if quant is QuantType.Q2_K:
        return GGMLType.Q3_K
    if quant is QuantType.Q3_K_M:
        return GGMLType.Q5_K if layer < n_layers // 16 else GGMLType.Q4_K
    if quant is QuantType.Q4_K_S and layer < n_layers // 8:
        return GGMLType.Q5_K
    if quant in (QuantType.Q4_K_M, QuantType.Q5_K_M) and _deserves_more_bits(layer, n_layers):
        return GGMLType.Q6_K
    return quant.base


def _deserves_more_bits(layer: int, n_layers: int) -> bool:
    """The first and last eighth of the layers, and every third between."""
    eighth = n_layers // 8
    return layer < eighth or layer >= 7 * n_layers // 8 or (layer - eighth) % 3 == 2
