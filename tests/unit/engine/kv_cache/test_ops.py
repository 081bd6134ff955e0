"""Cached prefixes outside the cells: what is kept, what is found, and that a prompt starts from it."""

from glmserve.engine.kv_cache.manager import LONG_PROMPT
from glmserve.engine.kv_cache.ops import (
    EACH_TOKEN,
    MAX_OFFLOADED,
    Drop,
    OffloadedMatch,
    OffloadedPrefixes,
    is_worth_offloading,
)
from glmserve.engine.messages import StepOutput, Submit
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.step_budget import TokenBudgetPolicy
from glmserve.engine.worker.core import EngineCore
from tests.support.scripted_runner import ScriptedRunner, lone_run

LONG = tuple(range(1, 101))


def test_the_prefix_that_shares_the_longest_start_is_found() -> None:
    offloaded = OffloadedPrefixes()
    offloaded.add(LONG[:50])
    key, _ = offloaded.add((*LONG[:70], 500, 501))
    assert offloaded.match(LONG, 99) == OffloadedMatch(key, 70, 72)
    assert offloaded.match(LONG, 60) == OffloadedMatch(key, 60, 72)
    assert offloaded.match((7,), 1) is None


def test_a_longer_prefix_makes_those_inside_it_superfluous() -> None:
    offloaded = OffloadedPrefixes()
    first, _ = offloaded.add(LONG[:50])
    _, forgotten = offloaded.add(LONG)
    assert forgotten == [Drop(first)]
    assert offloaded.num_tokens == len(LONG)


def test_what_was_parked_first_is_forgotten_first() -> None:
    offloaded = OffloadedPrefixes()
    keys = [offloaded.add((number, *LONG))[0] for number in range(200, 204)]
    assert offloaded.shrink(250) == [Drop(keys[0]), Drop(keys[1])]
    assert offloaded.take(keys[2]) == (202, *LONG)
    assert offloaded.num_tokens == len(LONG) + 1
    for number in range(300, 300 + MAX_OFFLOADED):
        offloaded.add((number,))
    assert offloaded.shrink(10_000) == [Drop(keys[3])]


def test_a_slot_that_has_little_of_its_own_is_not_worth_a_copy() -> None:
    assert is_worth_offloading(own=32, length=40)
    assert not is_worth_offloading(own=31, length=31)
    assert not is_worth_offloading(own=100, length=800)
    assert is_worth_offloading(own=200, length=800)


def run(core: EngineCore, request_id: int, prompt: tuple[int, ...], max_tokens: int = 4) -> StepOutput:
    """Run a request alone; return its last output, after checking the answer."""
    core.submit(Submit(request_id, prompt, SamplingParams(max_tokens=max_tokens)))
    outputs: list[StepOutput] = []
    while core.has_work:
        outputs += core.step().outputs
        core.check_integrity()
    assert [token for output in outputs for token in output.token_ids] == lone_run(prompt, max_tokens)
    return outputs[-1]


def engine(cells: int = 2000, idle_cells: int = 60) -> tuple[EngineCore, ScriptedRunner]:
    runner = ScriptedRunner(cells=cells, slots=12, context_length=500)
    return EngineCore(runner, TokenBudgetPolicy(1e9, 64), clock=lambda: 0.0, idle_cells=idle_cells), runner


def prompt_of(number: int, length: int = 100) -> tuple[int, ...]:
    return (1000 + number, *(1 + i % 40 for i in range(length - 1)))


def test_many_prefixes_leave_the_cells_few_and_all_are_still_known() -> None:
    core, runner = engine()
    for number in range(12):
        run(core, number, prompt_of(number))
    assert runner.cells_used <= 60 + 104
    for number in range(12):
        assert run(core, 100 + number, prompt_of(number)).cached_tokens == 99


def test_a_prefix_that_was_just_used_needs_no_copy() -> None:
    core, runner = engine(idle_cells=200)
    run(core, 1, prompt_of(1))
    assert run(core, 2, prompt_of(1)).cached_tokens == 99
    assert runner.copies == {}


def test_beside_a_long_prompt_no_idle_prefix_stays_in_the_cells_and_none_is_forgotten() -> None:
    runner = ScriptedRunner(cells=4 * LONG_PROMPT, slots=12, context_length=2 * LONG_PROMPT)
    core = EngineCore(runner, TokenBudgetPolicy(1e9, 64), clock=lambda: 0.0)
    for number in range(8):
        run(core, number, prompt_of(number))
    assert runner.copies == {}
    core.submit(Submit(50, prompt_of(50, LONG_PROMPT + 64), SamplingParams(max_tokens=1)))
    core.step()
    assert runner.cells_used == 64
    while core.has_work:
        core.step()
    for number in range(8):
        assert run(core, 100 + number, prompt_of(number)).cached_tokens == 99


def test_a_known_long_prompt_moves_no_idle_prefix() -> None:
    runner = ScriptedRunner(cells=4 * LONG_PROMPT, slots=12, context_length=2 * LONG_PROMPT)
    core = EngineCore(runner, TokenBudgetPolicy(1e9, 64), clock=lambda: 0.0, idle_cells=4 * LONG_PROMPT)
    run(core, 1, prompt_of(1, LONG_PROMPT + 64))
    run(core, 2, prompt_of(2))
    core.submit(Submit(3, prompt_of(1, LONG_PROMPT + 64), SamplingParams(max_tokens=1)))
    core.step()
    assert runner.copies == {}


def test_what_is_parked_counts_as_cache_and_gives_way_to_requests() -> None:
    core, runner = engine(cells=500)
    for number in range(12):
        run(core, number, prompt_of(number))
    assert core.stats.cells_used + core.stats.tokens_parked <= 500
    run(core, 99, prompt_of(99, 480), 10)
    assert not runner.copies


def test_a_prompt_that_shares_only_the_start_of_a_parked_prefix_starts_from_that() -> None:
    core, _ = engine()
    run(core, 1, prompt_of(1, 300))
    run(core, 2, prompt_of(2, 300))
    assert run(core, 3, (*prompt_of(1, 150), 77, 78)).cached_tokens == 150
    assert run(core, 4, prompt_of(1, 300)).cached_tokens == 299


def test_a_model_that_keeps_keys_of_each_token_can_start_anywhere_and_drop_drafts() -> None:
    assert (EACH_TOKEN.cuts, EACH_TOKEN.undoes) == (True, True)
