"""The types that a conversion chooses, and ggml's kernels that quantise to them."""

import ctypes

import numpy as np
import pytest
from gguf import GGMLQuantizationType as GGMLType

from glmserve.convert.gguf_format import block_size, data_bytes
from glmserve.convert.quantize.recipes import QuantType, fit_type, wanted_type
from glmserve.convert.quantize.run import library_path, load_kernels


def chosen_type(
    name: str, shape: tuple[int, ...], quant: QuantType, layer: int, layers: int, *, heads_per_group: int = 16
) -> GGMLType:
    return fit_type(wanted_type(name, shape, quant, layer, layers, heads_per_group=heads_per_group), shape)


@pytest.mark.parametrize("kind", [kind.base for kind in QuantType])
def test_block_sizes_are_the_librarys(kind: GGMLType) -> None:
    library = ctypes.CDLL(str(library_path()))
    library.ggml_blck_size.restype = ctypes.c_int64
    library.ggml_type_size.restype = ctypes.c_size_t
    assert library.ggml_blck_size(kind) == block_size(kind)
    assert library.ggml_type_size(kind) == data_bytes(kind, block_size(kind))


def test_f16_and_bf16_are_rounded_to_nearest() -> None:
    rows = np.array([[1.0, 1.0 + 2**-11 + 2**-20, -65504.0, 1e-8]], dtype=np.float32)
    data = load_kernels().quantize(rows, GGMLType.F16)
    np.testing.assert_array_equal(data.view(np.float16), rows.astype(np.float16)[0])
    assert load_kernels().quantize(np.ones((1, 1), np.float32), GGMLType.BF16).view("<u2").tolist() == [0x3F80]


def test_a_value_too_large_for_f16_is_not_valid() -> None:
    kernels = load_kernels()
    assert not kernels.is_valid(kernels.quantize(np.full((1, 32), 1e6, np.float32), GGMLType.F16), GGMLType.F16)


LAYERS = 28
QKV, DENSE, UP, DOWN = (4608, 4096), (4096, 4096), (27392, 4096), (4096, 13696)


def types(quant: QuantType, tensor: str, shape: tuple[int, int]) -> list[GGMLType]:
    return [chosen_type(f"blk.{i}.{tensor}.weight", shape, quant, i, LAYERS) for i in range(LAYERS)]


@pytest.mark.parametrize("quant", list(QuantType))
def test_vectors_stay_f32(quant: QuantType) -> None:
    assert chosen_type("blk.0.attn_norm.weight", (4096,), quant, 0, LAYERS) is GGMLType.F32


@pytest.mark.parametrize("quant", [QuantType.F32, QuantType.F16, QuantType.BF16])
def test_types_that_are_not_quantised_are_the_same_everywhere(quant: QuantType) -> None:
    assert set(types(quant, "ffn_down", DOWN)) == {quant.base}
    assert chosen_type("output.weight", (65024, 4096), quant, 0, LAYERS) is quant.base


@pytest.mark.parametrize("quant", [QuantType.Q4_0, QuantType.Q4_K_M, QuantType.Q5_1, QuantType.Q2_K])
def test_the_output_matrix_gets_six_bits(quant: QuantType) -> None:
    assert chosen_type("output.weight", (65024, 4096), quant, 0, LAYERS) is GGMLType.Q6_K


def test_the_output_matrix_of_q8_0_stays_q8_0() -> None:
    assert chosen_type("output.weight", (65024, 4096), QuantType.Q8_0, 0, LAYERS) is GGMLType.Q8_0


def test_q4_k_m_gives_more_bits_to_attention_in_the_outer_layers_and_every_third_between() -> None:
    wide = [i for i, t in enumerate(types(QuantType.Q4_K_M, "attn_qkv", QKV)) if t is GGMLType.Q6_K]
    assert wide == [0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 24, 25, 26, 27]
    assert set(types(QuantType.Q4_K_M, "ffn_up", UP)) == {GGMLType.Q4_K}


def test_rows_that_256_does_not_divide_get_the_type_llama_cpp_falls_back_to() -> None:
    assert set(types(QuantType.Q4_K_M, "ffn_down", DOWN)) == {GGMLType.Q5_0, GGMLType.Q8_0}
    assert set(types(QuantType.Q5_K_S, "ffn_down", DOWN)) == {GGMLType.Q5_1}
    assert set(types(QuantType.Q6_K, "ffn_down", DOWN)) == {GGMLType.Q8_0}
    assert set(types(QuantType.Q2_K, "ffn_down", DOWN)) == {GGMLType.Q4_0}


def test_rows_that_32_does_not_divide_become_f16() -> None:
    assert fit_type(GGMLType.Q4_0, (8, 100)) is GGMLType.F16
    assert fit_type(GGMLType.Q4_K, (8, 100)) is GGMLType.F16


def test_four_bit_small_gives_more_bits_to_the_first_layers_only() -> None:
    assert types(QuantType.Q4_K_S, "attn_qkv", QKV) == [GGMLType.Q5_K] * 4 + [GGMLType.Q4_K] * 24


def test_q2_k_depends_on_how_many_heads_share_a_group() -> None:
    shared = chosen_type("blk.9.attn_qkv.weight", QKV, QuantType.Q2_K, 9, LAYERS, heads_per_group=16)
    alone = chosen_type("blk.9.attn_qkv.weight", QKV, QuantType.Q2_K, 9, LAYERS, heads_per_group=2)
    assert (shared, alone) == (GGMLType.Q4_K, GGMLType.Q3_K)
    assert types(QuantType.Q2_K, "attn_output", DENSE)[0] is GGMLType.Q3_K
