"""The four verbs of the scheduler, and what it tells about itself."""

import pytest

from glmserve.engine.messages import SampledToken
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.batch import StepBudget
from glmserve.engine.scheduler.scheduler import MAX_ENDED, Scheduler, SchedulerConfig
from glmserve.engine.sequence import Sequence

BUDGET = StepBudget(64)
PROMPT, ANSWER = 10, 4


def scheduler(cells: int = 1000, parallel: int = 2, slots: int = 6) -> Scheduler:
    return Scheduler(SchedulerConfig(parallel=parallel, slots=slots, cells=cells, longest=100))


def sequence(number: int, answer: int = ANSWER, *, background: bool = False) -> Sequence:
    ids = tuple(range(1000 * number, 1000 * number + PROMPT))
    return Sequence(number, ids, SamplingParams(answer), answer, background=background)


def step(one: Scheduler) -> None:
    batch = one.schedule(BUDGET)
    one.update(batch, {item.sequence.request_id: (SampledToken(7),) for item in batch.items if item.samples})


@pytest.mark.parametrize(
    ("grounds", "steps", "expected"),
    [
        ("", 0, False),
        ("b", 0, True),
        ("b", 1, True),
        ("bbb", 1, True),
        ("f", 0, False),
        ("f", 1, False),
        ("bf", 1, False),
        ("bfb", 1, False),
    ],
)
def test_a_step_is_in_the_background_where_all_that_wait_and_run_are(grounds: str, steps: int, expected: bool) -> None:
    one = scheduler()
    for number, ground in enumerate(grounds):
        one.add(sequence(number, background=ground == "b"))
    for _ in range(steps):
        step(one)
    assert one.is_background == expected


def test_the_cells_of_the_running_are_those_that_they_use_and_may_still_need() -> None:
    one = scheduler()
    one.add(sequence(1))
    for _ in range(ANSWER):
        step(one)
        assert one.stats.cells_running == (PROMPT + ANSWER - 1 if one.stats.running else 0)
    assert one.stats.cells_used == PROMPT + ANSWER - 1


def test_where_nothing_is_drafted_nothing_was() -> None:
    stats = scheduler().stats
    assert (stats.drafted_tokens, stats.accepted_tokens) == (0, 0)


def test_a_prefix_is_pinned_where_a_slot_and_the_cells_of_the_longest_request_are_left() -> None:
    one = scheduler(cells=200, parallel=2, slots=4)
    assert one.can_pin(99)
    assert not one.can_pin(100), "a request that begins with it would not fit"
    one.pin_slot(tuple(range(60)))
    assert one.can_pin(40)
    assert not one.can_pin(41)
    one.pin_slot((7, 8))
    assert not one.can_pin(1), "the other slots are for requests"


def test_a_prefix_that_is_pinned_now_finds_its_cells_beside_all_that_run() -> None:
    one = scheduler(cells=60)
    one.add(sequence(1))
    step(one)
    left = 60 - (PROMPT + ANSWER - 1)
    assert one.can_pin(left, now=True)
    assert not one.can_pin(left + 1, now=True)


def test_ended_sequences_are_told_once_and_the_last_ones_of_many() -> None:
    one = scheduler()
    for number in range(MAX_ENDED + 2):
        one.add(sequence(number, answer=1))
        step(one)
    assert [ended.request_id for ended in one.take_ended()] == list(range(2, MAX_ENDED + 2))
    assert one.take_ended() == ()
