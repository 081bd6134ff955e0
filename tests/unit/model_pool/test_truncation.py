"""What is left out of a conversation that is too long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmserve.http.errors import TextTooLong
from glmserve.model_pool.registry import EncodedPrompt
from glmserve.model_pool.truncation import encode_latest, next_stride


@pytest.mark.anyio
@pytest.mark.parametrize("last", [0, 1, 2, 5, 100])
async def test_a_question_that_never_fits_is_refused_and_no_part_beyond_it_is_asked_for(last: int) -> None:
    """A single prompt of a million characters was asked for without its only part, which was a 500."""
    asked: list[int] = []

    async def encode(first: int) -> EncodedPrompt:
        asked.append(first)
        raise TextTooLong(10**6, 4096)

    with pytest.raises(TextTooLong):
        await encode_latest(encode, last, 4096)
    assert max(asked) == last


@given(st.integers(1, 5000), st.integers(0, 3000))
def test_half_of_what_fits_is_kept_at_least(first: int, fitting: int) -> None:
    start = next_stride(first, fitting)
    assert first <= start <= first + fitting // 2


def test_while_as_much_fits_the_first_part_changes_seldom() -> None:
    starts = [next_stride(first, 20) for first in range(1, 33)]
    assert starts == [8] * 8 + [16] * 8 + [24] * 8 + [32] * 8
