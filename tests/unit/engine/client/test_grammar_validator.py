"""Grammars of several callers wait for their check: who is next, and who has to come back later."""

import pytest

from glmserve.engine.client.grammar_validator import CostlyGrammars, FairQueue, TooManyCostlyGrammars
from glmserve.engine.errors import QueueFull


def _all(queue: FairQueue[str]) -> list[str]:
    taken = []
    while (item := queue.take()) is not None:
        taken.append(item)
    return taken


def test_callers_take_turns() -> None:
    """24 schemas of one kept another's waiting for over 200 s."""
    queue: FairQueue[str] = FairQueue(per_caller=64, total=256)
    for number in range(24):
        queue.add("hostile", f"h{number}")
    assert queue.take() == "h0"
    queue.add("other", "o0")
    queue.add("other", "o1")
    queue.add("third", "t0")
    assert _all(queue)[:6] == ["h1", "o0", "t0", "h2", "o1", "h3"]
    assert len(queue) == 0


def test_a_caller_has_a_bound_and_leaves_room_for_others() -> None:
    queue: FairQueue[str] = FairQueue(per_caller=3, total=4)
    for item in "abc":
        queue.add("one", item)
    with pytest.raises(QueueFull):
        queue.add("one", "d")
    queue.add("two", "x")
    with pytest.raises(QueueFull):
        queue.add("two", "y")
    queue.add("three", "z")
    assert sorted(_all(queue)) == ["a", "b", "c", "x", "z"]


def test_what_nobody_waits_for_any_more_is_not_taken() -> None:
    queue: FairQueue[str] = FairQueue(per_caller=3, total=9)
    queue.add("one", "a")
    queue.add("one", "b")
    queue.add("two", "c")
    queue.discard("one", "a")
    queue.discard("two", "c")
    queue.discard("two", "c")
    assert _all(queue) == ["b"]
    queue.add("two", "d")
    assert queue.drain() == ["d"]
    assert queue.take() is None


def test_whose_grammars_were_too_costly_has_to_wait_and_nobody_else() -> None:
    costly = CostlyGrammars()
    for second in range(costly.MOST):
        costly.check("hostile", second)
        costly.add("hostile", second)
    with pytest.raises(TooManyCostlyGrammars) as refused:
        costly.check("hostile", 20.0)
    assert refused.value.retry_after == 40
    costly.check("other", 20.0)
    costly.check("hostile", 60.5)
