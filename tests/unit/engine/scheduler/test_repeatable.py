"""The steps of a repeatable sequence: few rows, cells in order, and a note where they were not."""

from glmserve.engine.messages import SampledToken
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.batch import Batch, StepBudget
from glmserve.engine.scheduler.scheduler import Scheduler, SchedulerConfig
from glmserve.engine.sequence import MAX_REPEATABLE_ROWS, Sequence

BUDGET = StepBudget(512)
PROMPT = 3 * MAX_REPEATABLE_ROWS


def scheduler(cells: int = 2000) -> Scheduler:
    return Scheduler(SchedulerConfig(parallel=4, slots=8, cells=cells, longest=cells, idle_cells=cells))


def sequence(number: int, prompt: int = PROMPT, answer: int = 10, *, repeatable: bool = False) -> Sequence:
    ids = tuple(range(1000 * number, 1000 * number + prompt))
    return Sequence(number, ids, SamplingParams(answer), answer, repeatable=repeatable)


def rows(batch: Batch) -> int:
    return sum(len(item.ids) for item in batch.items)


def end(scheduler: Scheduler) -> None:
    """Run all sequences to their ends."""
    while scheduler.has_work:
        batch = scheduler.schedule(BUDGET)
        scheduler.update(batch, {item.sequence.request_id: (SampledToken(7),) for item in batch.items if item.samples})


def test_one_repeatable_sequence_bounds_the_step_of_all() -> None:
    alone, beside = scheduler(), scheduler()
    for one, repeatable in ((alone, False), (beside, True)):
        one.add(sequence(1))
        one.add(sequence(2, repeatable=repeatable))
    assert rows(alone.schedule(BUDGET)) == 2 * PROMPT
    assert rows(beside.schedule(BUDGET)) == MAX_REPEATABLE_ROWS


def test_a_repeatable_sequence_alone_starts_on_cells_without_holes() -> None:
    """As on a fresh server, whatever was evicted before."""
    one = scheduler(cells=2 * PROMPT)
    for number in range(1, 5):
        one.add(sequence(number))
        end(one)
    assert one.cache.has_holes
    repeatable = sequence(9, repeatable=True)
    one.add(repeatable)
    one.schedule(BUDGET)
    assert not one.cache.has_holes
    assert not repeatable.disturbed


def test_a_repeatable_sequence_is_disturbed_by_holes_that_come_while_it_runs() -> None:
    one = scheduler(cells=3 * PROMPT)
    one.add(sequence(1))
    end(one)
    repeatable, plain = sequence(8, answer=PROMPT, repeatable=True), sequence(9, 10)
    one.add(plain)
    one.schedule(BUDGET)
    one.add(repeatable)
    one.schedule(BUDGET)
    assert not repeatable.disturbed
    one.cache.release(next(iter(one.cache.lengths)))
    one.schedule(BUDGET)
    assert repeatable.disturbed
    assert not plain.disturbed
