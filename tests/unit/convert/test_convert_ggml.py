import ctypes

import numpy as np
import pytest
from gguf import GGMLQuantizationType as GGMLType

from glmserve.convert.quantize.ggml_kernels import block_size, data_bytes, library_path, load_kernels
from glmserve.convert.quantize.recipes import QuantType


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
