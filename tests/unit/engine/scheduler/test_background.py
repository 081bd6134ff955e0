"""Sequences in the background have the turns that nobody else needs, and lose nothing by giving them up."""

from collections import defaultdict
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from glmserve.engine.embedding.core import EmbeddingCore, EmbeddingRunner
from glmserve.engine.kv_cache.prefix_cache import PrefixCache
from glmserve.engine.messages import Embed, EngineInfo, FinishReason, StepOutput, Submit
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.step_budget import BACKGROUND, ROWS, TokenBudgetPolicy
from glmserve.engine.worker.core import EngineCore
from tests.support.scripted_runner import ScriptedRunner, lone_run
from tests.support.stepping import drain, tokens_of


def core_of(runner: ScriptedRunner | None = None) -> EngineCore:
    return EngineCore(runner or ScriptedRunner(), TokenBudgetPolicy(1.0, 64))


def ask(core: EngineCore, request_id: int, prompt: tuple[int, ...], tokens: int, *, background: bool) -> None:
    params = SamplingParams(max_tokens=tokens)
    assert core.submit(Submit(request_id, prompt, params, caller=f"{background}", background=background)) is None


def steps(core: EngineCore, count: int, outputs: dict[int, list[StepOutput]]) -> set[int]:
    """Step, checking the books; return whose tokens came."""
    seen = set()
    for _ in range(count):
        for output in core.step().outputs:
            outputs[output.request_id].append(output)
            seen.add(output.request_id)
        core.check_integrity()
    return seen


PROMPTS = [tuple(range(10 * n + 1, 10 * n + 6)) for n in range(8)]


def test_nothing_in_the_background_is_computed_while_somebody_waits_or_reads() -> None:
    core, outputs = core_of(), defaultdict[int, list[StepOutput]](list)
    for number in range(2):
        ask(core, number, PROMPTS[number], 20, background=True)
    assert steps(core, 3, outputs) == {0, 1}
    ask(core, 7, PROMPTS[7], 6, background=False)
    length = len(lone_run(PROMPTS[7], 6))
    assert steps(core, length, outputs) == {7}
    for number, more in drain(core).items():
        outputs[number] += more
    assert {n: tokens_of(o) for n, o in outputs.items()} == {
        n: lone_run(PROMPTS[n], 6 if n == 7 else 20) for n in outputs
    }


def test_a_place_is_given_up_and_the_answer_goes_on_where_it_was() -> None:
    runner = ScriptedRunner(parallel=2)
    core, outputs = core_of(runner), defaultdict[int, list[StepOutput]](list)
    for number in range(3):
        ask(core, number, PROMPTS[number], 30, background=True)
    steps(core, 4, outputs)
    assert core.stats.running == 2
    for number in (5, 6):
        ask(core, number, PROMPTS[number], 3, background=False)
    assert steps(core, 1, outputs) == {5, 6}
    assert core.stats.waiting == 3
    for number, more in drain(core).items():
        outputs[number] += more
    for number, told in outputs.items():
        assert tokens_of(told) == lone_run(PROMPTS[number], 3 if number > 4 else 30)
        assert [o.finish_reason for o in told if o.finish_reason] == [told[-1].finish_reason]
        assert {o.cached_tokens for o in told} == {0}
    # What was computed before is found again: of 3 prompts and 30 tokens little is computed twice.
    assert core.stats.prompt_tokens == sum(len(PROMPTS[n]) for n in outputs)


def test_cells_are_given_up_as_well() -> None:
    core = core_of(ScriptedRunner(cells=130, parallel=4))
    ask(core, 1, PROMPTS[1], 100, background=True)
    outputs = defaultdict[int, list[StepOutput]](list)
    steps(core, 3, outputs)
    ask(core, 2, PROMPTS[2], 100, background=False)
    assert steps(core, 2, outputs) <= {1, 2}
    assert outputs[2]
    for number, more in drain(core).items():
        outputs[number] += more
    assert {n: tokens_of(o) for n, o in outputs.items()} == {n: lone_run(PROMPTS[n], 100) for n in (1, 2)}


Asked = st.tuples(st.integers(0, 6), st.integers(1, 30), st.integers(1, 40), st.booleans(), st.integers(0, 3))


@given(st.lists(Asked, min_size=1, max_size=14), st.sampled_from([60, 100, 256]), st.integers(1, 4))
@settings(max_examples=150, deadline=None)
def test_every_answer_is_the_one_of_a_lone_run(
    asked: list[tuple[int, int, int, bool, int]], cells: int, parallel: int
) -> None:
    runner = ScriptedRunner(cells=cells, parallel=parallel, context_length=min(cells, 128))
    core, outputs = core_of(runner), defaultdict[int, list[StepOutput]](list)
    expected = {}
    for number, (start, length, tokens, background, pause) in enumerate(asked):
        prompt = tuple((start * 7 + i) % 50 for i in range(min(length, 20)))
        ask(core, number, prompt, tokens, background=background)
        expected[number] = lone_run(prompt, min(tokens, runner.info.context_length - len(prompt)))
        for _ in range(pause):
            if core.has_work:
                steps(core, 1, outputs)
    for number, more in drain(core).items():
        outputs[number] += more
    assert {n: tokens_of(o) for n, o in outputs.items()} == expected
    assert all(o[-1].finish_reason in (FinishReason.STOP, FinishReason.LENGTH) for o in outputs.values())


def test_an_aborted_one_is_gone_wherever_it_was() -> None:
    core, outputs = core_of(ScriptedRunner(parallel=1)), defaultdict[int, list[StepOutput]](list)
    ask(core, 1, PROMPTS[1], 30, background=True)
    steps(core, 2, outputs)
    ask(core, 2, PROMPTS[2], 3, background=False)
    steps(core, 1, outputs)
    core.abort(1)
    core.check_integrity()
    assert set(drain(core)) <= {2}


def test_steps_in_the_background_are_short() -> None:
    policy = TokenBudgetPolicy(1.0, 512)
    policy.observe(1.0, 64, 0)  # 64 tokens a second
    assert policy.background_seconds == BACKGROUND
    assert policy.background_budget(0).budget == ROWS
    assert policy.background_budget(30).budget == 48  # the answers and some of a prompt
    assert policy.step_budget(1).budget == 64


def test_what_the_background_leaves_in_the_cache_is_evicted_first() -> None:
    index = PrefixCache()
    for slot, tokens in ((0, [1, 2, 3]), (1, [5, 6]), (2, [7, 8])):
        index.open(slot)
        index.extend(slot, tokens)
    for slot in (0, 1, 2):
        index.unpin(slot)
    index.make_spare(2)
    assert index.evictable() == 2
    index.release(2)
    assert index.evictable() == 0
    index.check_integrity()


class _Vectors(EmbeddingRunner):
    info = EngineInfo(64, 0, 8, 50, "scripted", 0.0, embedding_size=1)
    most_tokens = usual_tokens = 8
    most_inputs = 4

    def __init__(self) -> None:
        self.batches: list[list[tuple[int, ...]]] = []

    def embed(self, inputs: Sequence[tuple[int, ...]]) -> tuple[bytes, ...]:
        self.batches.append(list(inputs))
        return tuple(b"" for _ in self.batches[-1])

    def self_test(self) -> None: ...

    def close(self) -> None: ...


def test_vectors_that_somebody_waits_for_are_made_first() -> None:
    runner = _Vectors()
    core = EmbeddingCore(runner)
    core.submit(Embed(1, ((1,), (2,)), "batch:", background=True))
    core.submit(Embed(2, ((3,),), "a"))
    while core.has_work:
        core.step()
    assert runner.batches == [[(3,)], [(1,), (2,)]]
