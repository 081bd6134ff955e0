"""Log-probabilities out of logits."""

import math

import numpy as np
import numpy.typing as npt
import pytest

from glmserve.engine.llama.sampler import score


def _log_softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    exact = logits.astype(np.float64) - float(logits.max())
    return exact - float(np.log(np.exp(exact).sum()))


@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0])
def test_scores_are_the_log_softmax_of_a_whole_vocabulary(scale: float) -> None:
    logits = (np.random.default_rng(3).standard_normal(65024) * scale).astype(np.float32)
    before = logits.copy()
    expected = _log_softmax(logits)
    scored = score(logits, 77, 20)
    assert scored.logprob == pytest.approx(expected[77], abs=1e-4)
    assert [rival.logprob for rival in scored.top] == pytest.approx(np.sort(expected)[::-1][:20], abs=1e-4)
    assert all(rival.logprob == pytest.approx(expected[rival.token_id], abs=1e-4) for rival in scored.top)
    assert sum(math.exp(rival.logprob or 0.0) for rival in scored.top) <= 1 + 1e-9
    assert (logits == before).all()


def test_equal_ones_come_in_the_order_of_their_ids() -> None:
    scored = score(np.array([1, 3, 3, 2], np.float32), 0, 3)
    assert [rival.token_id for rival in scored.top] == [1, 2, 3]


def test_none_are_listed_where_none_are_asked_for_and_no_more_than_there_are() -> None:
    logits = np.zeros(4, np.float32)
    assert score(logits, 0, 0).top == ()
    assert len(score(logits, 0, 20).top) == 4
