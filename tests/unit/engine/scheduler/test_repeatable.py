"""The steps of a repeatable sequence: few rows, cells in order, and a note where they were not."""

from glmserve.engine.messages import SampledToken
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.batch import Batch
from glmserve.engine.scheduler.scheduler import MAX_REPEATABLE, Scheduler, SchedulerConfig
from glmserve.engine.scheduler.step_budget import StepBudget
from glmserve.engine.sequence import REPEATABLE_CHUNK, REPEATABLE_ROWS, Sequence

BUDGET = StepBudget(512)
PROMPT = 3 * REPEATABLE_CHUNK + 5


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


def steps(scheduler: Scheduler, budget: StepBudget = BUDGET) -> list[list[tuple[int, int, int]]]:
    """Run all sequences to their ends; return request, first position and rows of each item of each step."""
    done = []
    while scheduler.has_work:
        batch = scheduler.schedule(budget)
        done.append([(item.sequence.request_id, item.start, item.num_tokens) for item in batch.items])
        scheduler.update(batch, {item.sequence.request_id: (SampledToken(7),) for item in batch.items if item.samples})
    return done


def test_repeatable_prompts_are_computed_in_the_same_chunks_whatever_the_budget_allows() -> None:
    """llama.cpp's kernels for q4_k_m round differently in steps of other sizes, which depended on the time."""
    for budget in (16, 60, 512):
        one = scheduler()
        one.add(sequence(1, answer=2, repeatable=True))
        chunks = [(1, at, min(REPEATABLE_CHUNK, PROMPT - at)) for at in range(0, PROMPT, REPEATABLE_CHUNK)]
        assert steps(one, StepBudget(budget)) == [*([chunk] for chunk in chunks), [(1, PROMPT, 1)]]


def test_repeatable_sequences_share_no_step_with_a_prompt_and_are_decoded_two_by_two() -> None:
    one = scheduler()
    for number in range(3):
        one.add(sequence(number, answer=9, repeatable=True))
    for step in steps(one, StepBudget(512, answers_next=True)):
        sizes = [rows for _, _, rows in step]
        prompts = [request for request, start, _ in step if start < PROMPT]
        assert len(step) == 1 if prompts else sizes in ([1], [1] * REPEATABLE_ROWS)


def test_answers_and_prompts_of_repeatable_sequences_take_turns() -> None:
    one = scheduler()
    one.add(sequence(1, prompt=5, answer=50, repeatable=True))
    first = one.schedule(BUDGET)
    one.update(first, {1: (SampledToken(7),)})
    one.add(sequence(2, repeatable=True))
    assert [item.sequence.request_id for item in one.schedule(StepBudget(512, answers_next=True)).items] == [1]
    assert [item.sequence.request_id for item in one.schedule(StepBudget(512)).items] == [2]


def test_a_sequence_that_is_computed_with_another_one_is_disturbed_and_not_reused() -> None:
    one = scheduler()
    repeatable = sequence(1, repeatable=True)
    one.add(repeatable)
    one.schedule(BUDGET)
    one.add(sequence(2))
    batch = one.schedule(BUDGET)
    assert rows(batch) > REPEATABLE_CHUNK, "nobody waits for a sequence that is not repeatable any more"
    assert repeatable.disturbed
    end(one)
    assert [one.cache.tokens(slot)[0] for slot in one.cache.lengths] == [2000], "its cells are freed"


def test_one_that_is_disturbed_after_its_prompt_leaves_it_to_others() -> None:
    one = scheduler()
    repeatable = sequence(1, answer=50, repeatable=True)
    one.add(repeatable)
    while not repeatable.is_decoding:
        batch = one.schedule(BUDGET)
        one.update(batch, {item.sequence.request_id: (SampledToken(7),) for item in batch.items if item.samples})
    one.add(sequence(2))
    end(one)
    assert repeatable.disturbed
    assert sorted(one.cache.tokens(slot)[0] for slot in one.cache.lengths) == [1000, 2000]


def test_a_sequence_can_be_repeatable_beside_few_others_that_are() -> None:
    one = scheduler()
    assert one.takes_repeatable
    for number in range(MAX_REPEATABLE):
        assert one.takes_repeatable
        one.add(sequence(number, repeatable=True))
    assert not one.takes_repeatable
    plain, disturbed = scheduler(), scheduler()
    plain.add(sequence(1))
    disturbed.add(sequence(1, repeatable=True))
    disturbed.schedule(BUDGET).items[0].sequence.disturb()
    assert not plain.takes_repeatable
    assert not disturbed.takes_repeatable


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
    repeatable = sequence(8, answer=PROMPT, repeatable=True)
    one.add(repeatable)
    one.schedule(BUDGET)
    assert not repeatable.disturbed
    one.cache.has_holes = True
    one.schedule(BUDGET)
    assert repeatable.disturbed
    assert not repeatable.reusable, "the rest of its prompt may lie before its beginning"
