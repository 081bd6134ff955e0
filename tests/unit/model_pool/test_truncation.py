"""What is left out of a conversation that is too long."""

from hypothesis import given
from hypothesis import strategies as st

from glmserve.model_pool.truncation import next_stride


@given(st.integers(1, 5000), st.integers(0, 3000))
def test_half_of_what_fits_is_kept_at_least(first: int, fitting: int) -> None:
    start = next_stride(first, fitting)
    assert first <= start <= first + fitting // 2


def test_while_as_much_fits_the_first_part_changes_seldom() -> None:
    starts = [next_stride(first, 20) for first in range(1, 33)]
    assert starts == [8] * 8 + [16] * 8 + [24] * 8 + [32] * 8
