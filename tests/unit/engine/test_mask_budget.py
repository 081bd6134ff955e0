"""The processor time that the grammar of one answer may take."""

import pytest

from glmserve.engine.grammar_backend import MaskBudget, MaskTooSlow


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _follow(seconds: list[float]) -> int:
    """Return how many tokens, each of which takes as many of ``seconds``, are within the budget."""
    clock = _Clock()
    budget = MaskBudget(clock)
    for token, taken in enumerate(seconds):
        try:
            with budget.measured():
                clock.now += taken
            with budget.measured(tokens=1):
                pass
        except MaskTooSlow:
            return token
    return len(seconds)


def test_what_schemas_take_is_within_it() -> None:
    assert _follow([0.04] * 3 + [0.0005] * 4000) == 4003


def test_growing_cost_ends_the_answer_before_others_notice() -> None:
    """``e: e e e | e e | "a" | "b" | ""`` made the steps of everybody thirty times as long."""
    growing = [0.000004 * token**2 for token in range(400)]
    ended = _follow(growing)
    assert ended < 100
    assert sum(growing[: ended + 1]) < 1.0


def test_one_long_mask_is_the_last() -> None:
    assert _follow([0.0001] * 10 + [1.0] * 10) == 10


def test_time_between_is_not_counted() -> None:
    clock = _Clock()
    budget = MaskBudget(clock)
    for _ in range(100):
        with budget.measured(tokens=1):
            clock.now += 0.001
        clock.now += 10.0


def test_what_is_said_of_it() -> None:
    clock = _Clock()
    budget = MaskBudget(clock)
    with pytest.raises(MaskTooSlow, match=r"too ambiguous: it took 2\.00 s"), budget.measured(tokens=1):
        clock.now = 2.0
