"""The engine core on a scripted runner: every request ends once, with the answer it would get alone."""

from collections import Counter, defaultdict
from concurrent.futures import Future
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glmserve.engine.kv_cache.ops import EACH_TOKEN, IDLE_CELLS, CacheTraits
from glmserve.engine.messages import FinishReason, SampledToken, StepOutput, Submit
from glmserve.engine.model_runner import SampleError
from glmserve.engine.params import Grammar, GrammarKind, SamplingParams
from glmserve.engine.scheduler.batch import BatchItem
from glmserve.engine.scheduler.step_budget import TokenBudgetPolicy
from glmserve.engine.worker.core import EngineCore, EngineCorrupted
from tests.support.faults import install, parse
from tests.support.scripted_runner import ScriptedRunner, lone_run
from tests.support.stepping import drain, tokens_of


def _core(runner: ScriptedRunner, budget: int = 16, idle_cells: int = IDLE_CELLS) -> EngineCore:
    return EngineCore(runner, TokenBudgetPolicy(1e9, budget), clock=lambda: 0.0, idle_cells=idle_cells)


def _submit(core: EngineCore, request_id: int, prompt: tuple[int, ...], max_tokens: int) -> StepOutput | None:
    return core.submit(Submit(request_id, prompt, SamplingParams(max_tokens=max_tokens)))


_PROMPT = st.lists(st.integers(1, 3), min_size=1, max_size=40).map(tuple)


@settings(max_examples=200, deadline=None)
@given(
    requests=st.lists(st.tuples(_PROMPT, st.integers(1, 30)), min_size=1, max_size=14),
    bounds=st.tuples(st.integers(70, 300), st.integers(1, 5), st.integers(-1, 4), st.integers(1, 40)),
    idle_cells=st.sampled_from([0, 20, 1000]),
    tile=st.sampled_from([0, 4, 24]),
    traits=st.sampled_from([EACH_TOKEN, CacheTraits(cuts=False), CacheTraits(cuts=False, undoes=False, copies=2)]),
    data=st.data(),
)
def test_every_request_ends_once_with_the_answer_it_gets_alone(
    *,
    requests: list[tuple[tuple[int, ...], int]],
    bounds: tuple[int, int, int, int],
    idle_cells: int,
    tile: int,
    traits: CacheTraits,
    data: st.DataObject,
) -> None:
    cells, parallel, spare_slots, budget = bounds
    runner = ScriptedRunner(cells, max(1, parallel + spare_slots), parallel, context_length=70, traits=traits)
    policy = TokenBudgetPolicy(1e9, budget, tile)
    core = EngineCore(runner, policy, clock=count().__next__, idle_cells=idle_cells)
    aborted, outputs = set[int](), defaultdict[int, list[StepOutput]](list)

    def step() -> None:
        for output in core.step().outputs:
            outputs[output.request_id].append(output)
        core.check_integrity()
        assert core.stats.cells_used <= runner.cells_used <= cells
        assert core.stats.cells_used + core.stats.tokens_parked <= cells
        assert sum(map(len, runner.copies.values())) == core.stats.tokens_parked

    for request_id, (prompt, max_tokens) in enumerate(requests):
        assert _submit(core, request_id, prompt, max_tokens) is None
        for _ in range(data.draw(st.integers(0, 3))):
            step()
        if data.draw(st.integers(0, 4)) == 0:
            victim = data.draw(st.integers(0, request_id))
            if not any(o.finish_reason for o in outputs[victim]):
                core.abort(victim)
                aborted.add(victim)
    for _ in range(3000):
        if not core.has_work:
            break
        step()
    assert not core.has_work
    assert not runner.samplers
    for request_id, (prompt, max_tokens) in enumerate(requests):
        ends = [o.finish_reason for o in outputs[request_id] if o.finish_reason]
        expected = lone_run(prompt, max_tokens)
        if request_id in aborted:
            assert not ends
            assert tokens_of(outputs[request_id]) == expected[: len(tokens_of(outputs[request_id]))]
        else:
            assert ends == [FinishReason.STOP if expected[-1] == 0 else FinishReason.LENGTH]
            assert tokens_of(outputs[request_id]) == expected


def test_sequences_past_the_limit_of_a_step_take_turns() -> None:
    runner = ScriptedRunner(cells=2000, slots=16, parallel=8, context_length=500)
    runner.decoding_limit = 3
    core = _core(runner, budget=64)
    for request_id in range(8):
        _submit(core, request_id, (1, 2, request_id), 40)
    core.step()
    given = Counter(output.request_id for _ in range(8) for output in core.step().outputs)
    assert given == dict.fromkeys(range(8), 3)
    assert max(runner.batches[1:]) == 3
    outputs = drain(core)
    assert all(tokens_of(outputs[i]) == lone_run((1, 2, i), 40)[4:] for i in range(8))


def test_eight_equal_prompts_are_computed_once() -> None:
    runner = ScriptedRunner(cells=2000, slots=16, parallel=8, context_length=500)
    core = _core(runner, budget=64)
    prompt = tuple(1 + i % 40 for i in range(300))
    for request_id in range(8):
        _submit(core, request_id, prompt, 4)
    outputs = drain(core)
    assert runner.computed <= 300 + 8 * 4
    assert [outputs[i][0].cached_tokens for i in range(8)] == [0] + [299] * 7


def test_a_shared_start_that_is_being_computed_is_waited_for() -> None:
    runner = ScriptedRunner(cells=2000, slots=16, parallel=8, context_length=500)
    core = _core(runner, budget=32)
    shared = tuple(1 + i % 40 for i in range(200))
    _submit(core, 0, (*shared, 41), 3)
    core.step()
    for request_id in range(1, 6):
        _submit(core, request_id, (*shared, 41 + request_id), 3)
    outputs = drain(core)
    assert all(outputs[i][0].cached_tokens == 200 for i in range(1, 6))


def test_a_leader_that_is_aborted_does_not_leave_its_followers_waiting() -> None:
    core = _core(ScriptedRunner(cells=2000, context_length=500), budget=32)
    prompt = tuple(1 + i % 40 for i in range(200))
    _submit(core, 0, prompt, 3)
    _submit(core, 1, prompt, 3)
    core.step()
    core.abort(0)
    outputs = drain(core)
    assert tokens_of(outputs[1]) == lone_run(prompt, 3)
    assert outputs[1][0].cached_tokens > 0


def test_the_next_turn_of_a_chat_starts_from_the_whole_turn_before() -> None:
    core = _core(ScriptedRunner())
    prompt = (1, 2, 3, 4, 5)
    _submit(core, 0, prompt, 6)
    answer = tokens_of(drain(core)[0])
    _submit(core, 1, (*prompt, *answer, 9, 9), 2)
    assert drain(core)[1][0].cached_tokens == len(prompt) + len(answer) - 1


def test_a_running_stream_gets_a_token_in_every_step_while_a_long_prompt_is_computed() -> None:
    core = _core(ScriptedRunner(cells=2000, context_length=1000), budget=20)
    _submit(core, 0, (4, 5), 30)
    core.step()
    _submit(core, 1, tuple(1 + i % 7 for i in range(200)), 1)
    seen = []
    while core.has_work:
        seen.append({o.request_id for o in core.step().outputs})
    first_answer = next(i for i, ids in enumerate(seen) if 1 in ids)
    alive = len(lone_run((4, 5), 30)) - 1
    assert all(0 in ids for ids in seen[: min(alive, first_answer)])


def test_a_short_prompt_does_not_wait_behind_a_long_one() -> None:
    core = _core(ScriptedRunner(cells=4000, context_length=2000), budget=20)
    _submit(core, 0, tuple(1 + i % 7 for i in range(1000)), 1)
    core.step()
    _submit(core, 1, (8, 8, 8), 1)
    assert [o.request_id for o in core.step().outputs] == [1]


def test_it_is_computed_in_the_second_step_at_the_latest_though_the_oldest_has_turns() -> None:
    for steps in range(8):
        core = _core(ScriptedRunner(cells=4000, context_length=2000), budget=20)
        _submit(core, 0, tuple(1 + i % 7 for i in range(1000)), 1)
        for _ in range(steps):
            core.step()
        _submit(core, 1, (8, 8, 8), 1)
        assert [o.request_id for _ in range(2) for o in core.step().outputs] == [1]


def test_a_long_prompt_is_not_starved_by_short_ones() -> None:
    core = _core(ScriptedRunner(cells=4000, context_length=2000), budget=20)
    _submit(core, 0, tuple(1 + i % 7 for i in range(100)), 1)
    done = False
    for request_id in range(1, 60):
        _submit(core, request_id, tuple(10 + (request_id * 7 + i) % 30 for i in range(20)), 1)
        done = done or any(o.request_id == 0 for o in core.step().outputs)
    assert done


@pytest.mark.parametrize("prompt", [(), tuple([1] * 128)])
def test_a_prompt_that_can_never_run_is_refused_at_once(prompt: tuple[int, ...]) -> None:
    core = _core(ScriptedRunner(context_length=128))
    refused = _submit(core, 0, prompt, 1)
    assert refused is not None
    assert refused.finish_reason is FinishReason.ERROR
    assert not core.has_work


def test_an_answer_is_cut_where_the_context_ends() -> None:
    core = _core(ScriptedRunner(context_length=20))
    _submit(core, 0, tuple([5] * 15), 1000)
    answer = tokens_of(drain(core)[0])
    assert answer == lone_run(tuple([5] * 15), 5)


def test_a_batch_that_fails_hurts_only_the_request_that_caused_it() -> None:
    runner = ScriptedRunner()
    core = _core(runner, budget=64)
    runner.poison = 49
    for request_id, prompt in enumerate([(1, 2), (3, 49, 3), (4, 5)]):
        _submit(core, request_id, prompt, 1)
    outputs = drain(core)
    assert [outputs[i][-1].finish_reason for i in range(3)].count(FinishReason.ERROR) == 1
    assert outputs[1][-1].error == "poisoned"
    assert tokens_of(outputs[2]) == lone_run((4, 5), 1)


class _Constrained(ScriptedRunner):
    """One whose grammars are futures that the test completes, and whose sampling may end or fail."""

    def __init__(self) -> None:
        super().__init__()
        self.prepared: dict[int, Future[None]] = {}
        self.final: set[int] = set()
        self.broken: set[int] = set()

    def prepare(self, request_id: int, params: SamplingParams, answer_ids: tuple[int, ...] = ()) -> Future[None]:
        return self.prepared.setdefault(request_id, Future())

    def sample(self, item: BatchItem, draft: int = 0) -> SampledToken:
        if item.sequence.request_id in self.broken:
            raise SampleError("no token fits")
        return super().sample(item, draft)._replace(final=item.sequence.request_id in self.final)


_GRAMMAR = Grammar(GrammarKind.REGEX, "a")


def _submit_constrained(core: EngineCore, request_id: int) -> None:
    assert core.submit(Submit(request_id, (1, 2), SamplingParams(max_tokens=5, grammar=_GRAMMAR))) is None


def test_a_request_waits_for_its_grammar_while_others_go_on() -> None:
    runner = _Constrained()
    core = _core(runner)
    _submit_constrained(core, 1)
    assert (core.has_work, core.is_preparing) == (False, True)
    _submit(core, 2, (3,), 4)
    assert tokens_of(drain(core)[2]) == lone_run((3,), 4)
    runner.prepared[1].set_result(None)
    assert core.has_work
    assert tokens_of(drain(core)[1]) == lone_run((1, 2), 5)
    assert not core.is_preparing


def test_a_grammar_that_fails_ends_its_request_and_an_aborted_one_never_starts() -> None:
    runner = _Constrained()
    core = _core(runner)
    _submit_constrained(core, 1)
    _submit_constrained(core, 2)
    core.abort(2)
    runner.prepared[1].set_exception(ValueError("too large"))
    runner.prepared[2].set_result(None)
    ((only,),) = drain(core).values()
    assert (only.request_id, only.finish_reason, only.token_ids) == (1, FinishReason.ERROR, ())
    assert "too large" in only.error


def test_a_sequence_that_cannot_be_sampled_fails_alone_and_leaves_no_cells() -> None:
    runner = _Constrained()
    runner.broken.add(1)
    core = _core(runner)
    _submit(core, 1, (1, 2, 3), 5)
    _submit(core, 2, (3, 1), 5)
    outputs = drain(core)
    assert (outputs[1][-1].finish_reason, outputs[1][-1].error) == (FinishReason.ERROR, "no token fits")
    assert tokens_of(outputs[2]) == lone_run((3, 1), 5)
    assert not runner.samplers


def test_a_final_token_ends_an_answer_whatever_it_was_told() -> None:
    runner = _Constrained()
    runner.final.add(1)
    core = _core(runner)
    core.submit(Submit(1, (1, 2), SamplingParams(max_tokens=9, min_tokens=5, ignore_eos=True)))
    (output,) = drain(core)[1]
    assert (len(output.token_ids), output.finish_reason) == (1, FinishReason.STOP)


def test_a_scored_prompt_is_computed_anew_in_small_pieces_and_told_once() -> None:
    runner = ScriptedRunner(cells=600, context_length=300)
    core = _core(runner, budget=200)
    prompt = tuple(1 + i % 3 for i in range(150))
    _submit(core, 1, prompt, 1)
    drain(core)
    runner.batches.clear()
    core.submit(Submit(2, prompt, SamplingParams(max_tokens=1, prompt_logprobs=0)))
    outputs = drain(core)[2]
    scores = [token for output in outputs for token in output.prompt_logprobs]
    assert tuple(token.token_id for token in scores) == prompt
    assert [token.logprob for token in scores] == [None] + [-1.0] * 149
    assert runner.batches == [64, 64, 22]
    assert outputs[-1].cached_tokens == 0


def test_of_many_sequences_the_one_to_blame_is_found_by_halving() -> None:
    runner = _Counting(cells=400, slots=40, parallel=32)
    core = _core(runner, budget=64)
    for request_id in range(32):
        _submit(core, request_id, (1, 2, 49 if request_id == 11 else request_id), 1)
    runner.poison = 49
    outputs = drain(core)
    assert [i for i in range(32) if outputs[i][-1].finish_reason is FinishReason.ERROR] == [11]
    assert runner.decodes <= 1 + 2 * 5


def test_streams_beside_one_that_fails_go_on_as_they_would_alone() -> None:
    runner = ScriptedRunner(cells=400)
    core = _core(runner, budget=64)
    _submit(core, 0, (1, 2, 3), 30)
    _submit(core, 1, (3, 2, 1), 30)
    core.step()
    runner.poison = 49
    _submit(core, 2, (5, 49), 30)
    outputs = drain(core)
    assert tokens_of(outputs[0]) == lone_run((1, 2, 3), 30)[1:]
    assert tokens_of(outputs[1]) == lone_run((3, 2, 1), 30)[1:]
    assert outputs[2][-1].error == "poisoned"


@pytest.mark.parametrize("place", ["sample", "score_prompt", "open_sampler"])
def test_what_nobody_expected_of_one_sequence_hurts_it_alone(place: str) -> None:
    """An exception in a sampler took the engine down, and every stream with it."""
    runner = ScriptedRunner(cells=400)
    install(parse(f"{place}@49=error"), runner)
    core = _core(runner, budget=64)
    _submit(core, 0, (1, 2, 3), 30)
    core.submit(Submit(1, (5, 49), SamplingParams(max_tokens=9, prompt_logprobs=1)))
    outputs = drain(core)
    assert tokens_of(outputs[0]) == lone_run((1, 2, 3), 30)
    assert (outputs[1][-1].finish_reason, outputs[1][-1].error) == (FinishReason.ERROR, "RuntimeError: on purpose")
    assert not runner.samplers


def test_a_device_that_is_gone_is_no_fault_of_the_requests() -> None:
    runner = ScriptedRunner(cells=400)
    install(parse("decode:2+=-3"), runner)
    core = _core(runner, budget=64)
    for request_id in range(3):
        _submit(core, request_id, (1, 2, request_id), 9)
    core.step()
    with pytest.raises(EngineCorrupted, match="-3"):
        core.step()


def test_single_failures_of_computing_are_forgiven() -> None:
    runner = ScriptedRunner(cells=400)
    install(parse("decode:1=-3,decode:3=-3,decode:5=-3,decode:7=-3"), runner)
    core = _core(runner, budget=64)
    for request_id in range(8):
        _submit(core, request_id, (1, 2, request_id), 1)
        drain(core)


class _Counting(ScriptedRunner):
    decodes = 0

    def decode(self, items: tuple[BatchItem, ...]) -> None:
        self.decodes += 1
        super().decode(items)
