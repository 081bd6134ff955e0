import numpy as np
import pytest

from glmserve.convert.checkpoint.raw_tensor import to_float32


@pytest.mark.parametrize("chosen", ["all", "finite"])
def test_every_float16_becomes_the_float32_of_the_same_value(chosen: str) -> None:
    halves = np.arange(65536, dtype=np.uint16)
    if chosen == "finite":
        halves = halves[np.isfinite(halves.view(np.float16))]
        assert len(halves) == 63488
    widened = to_float32(halves.view(np.uint8), "F16")
    np.testing.assert_array_equal(widened, halves.view(np.float16).astype(np.float32))
    assert np.array_equal(np.signbit(widened), halves >> 15)


def test_no_values_are_no_values() -> None:
    assert to_float32(np.empty(0, np.uint8), "F16").shape == (0,)


def test_bfloat16_is_the_upper_half_of_float32() -> None:
    values = np.array([1.0, -2.5, np.inf, 2**-133], dtype=np.float32)
    upper = (values.view(np.uint32) >> 16).astype(np.uint16)
    np.testing.assert_array_equal(to_float32(upper.view(np.uint8), "BF16"), values)
