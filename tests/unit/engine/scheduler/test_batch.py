"""The content of a step: whose prompts are in it, and adapters, each computed and cached apart from the others."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glmserve.engine.kv_cache.prefix_keys import PLAIN, LoadedAdapter, adapter_number
from glmserve.engine.messages import FinishReason, StepOutput, Submit
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.batch import SCORED_PER_STEP, AdapterRotation, ChunkedPrefill, item_of
from glmserve.engine.scheduler.step_budget import TokenBudgetPolicy
from glmserve.engine.sequence import Sequence
from glmserve.engine.worker.core import EngineCore
from tests.support.scripted_runner import ScriptedRunner, lone_run
from tests.support.stepping import drain

LORA = LoadedAdapter(1, has_lora=True)
PREFIX = LoadedAdapter(2, prefix_length=20)
BOTH = LoadedAdapter(3, has_lora=True, prefix_length=5)
ADAPTERS = {"lora": LORA, "prefix": PREFIX, "both": BOTH}


def _core(cells: int = 400, parallel: int = 4, budget: int = 16) -> tuple[EngineCore, ScriptedRunner]:
    runner = ScriptedRunner(cells, parallel + 6, parallel, context_length=100)
    runner.adapters = ADAPTERS
    return EngineCore(runner, TokenBudgetPolicy(1e9, budget), clock=lambda: 0.0), runner


def _run(core: EngineCore, requests: list[tuple[str, tuple[int, ...], int]]) -> dict[int, list[StepOutput]]:
    for request_id, (adapter, prompt, max_tokens) in enumerate(requests):
        core.submit(Submit(request_id, prompt, SamplingParams(max_tokens=max_tokens), adapter))
    return drain(core)


def _expected(adapter: str, prompt: tuple[int, ...], max_tokens: int) -> list[int]:
    """A lone run over the cells that the adapter would have, its salt on every token."""
    loaded = ADAPTERS.get(adapter, PLAIN)
    tokens = list(loaded.key(prompt))
    answer: list[int] = []
    while len(answer) < max_tokens and (not answer or answer[-1]):
        answer.append(lone_run(tuple(tokens), 1)[0])
        tokens.append(answer[-1] + loaded.salt)
    return answer


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "lora", "prefix", "both"]),
            st.lists(st.integers(1, 2), min_size=1, max_size=30).map(tuple),
            st.integers(1, 20),
        ),
        min_size=1,
        max_size=12,
    ),
    st.integers(130, 300),
    st.integers(1, 30),
)
def test_each_request_gets_what_its_adapter_gives_it_alone(
    requests: list[tuple[str, tuple[int, ...], int]], cells: int, budget: int
) -> None:
    core, _ = _core(cells, budget=budget)
    outputs = _run(core, requests)
    for request_id, request in enumerate(requests):
        answer = [token for output in outputs[request_id] for token in output.token_ids]
        assert answer == _expected(*request)


def test_a_prefix_is_never_computed_and_not_counted_as_prompt() -> None:
    core, runner = _core()
    runs = [_run(core, [("prefix", (1, 2, 3), 1)]) for _ in range(2)]
    assert runner.computed == 3 + 1
    assert [outputs[0][0].cached_tokens for outputs in runs] == [0, 2]
    assert core.stats.prompt_tokens == 6


def test_equal_prompts_of_different_adapters_share_nothing() -> None:
    core, runner = _core()
    outputs = _run(core, [(adapter, (1, 2, 3, 4), 1) for adapter in ("", "lora", "prefix", "both")])
    assert runner.computed == 16
    assert all(outputs[i][0].cached_tokens == 0 for i in range(4))


def test_a_prefix_outlives_any_number_of_requests_that_fill_the_cache() -> None:
    core, runner = _core(cells=130)
    _run(core, [("", tuple(1 + (i + j) % 40 for j in range(60)), 5) for i in range(12)])
    assert all(list(adapter.prefix_tokens) in _lanes(runner) for adapter in (PREFIX, BOTH))


def _lanes(runner: ScriptedRunner) -> list[list[int]]:
    return [[cell[0] for cell in lane] for lane in runner.lanes.values()]


def test_a_prompt_that_fits_only_without_its_prefix_is_refused() -> None:
    core, _ = _core()
    refused = core.submit(Submit(0, (1,) * 85, SamplingParams(max_tokens=1), "prefix"))
    assert refused is not None
    assert refused.finish_reason is FinishReason.ERROR
    assert core.submit(Submit(1, (1,) * 85, SamplingParams(max_tokens=1))) is None


@pytest.mark.parametrize("adapter", [LORA, PREFIX, BOTH])
def test_no_token_of_an_adapter_can_be_one_of_another(adapter: LoadedAdapter) -> None:
    others = [other for other in (PLAIN, LORA, PREFIX, BOTH) if other is not adapter]
    mine = set(adapter.key(tuple(range(65024)))) - (set(range(65024)) if not adapter.salt else set())
    assert not any(mine & set(other.key(tuple(range(65024)))) for other in others)


def test_the_salt_tells_the_adapter() -> None:
    assert [adapter_number(v.salt) for v in (PLAIN, LORA, PREFIX, BOTH)] == [0, 1, 0, 3]


def _sequence(number: int, prompt: int = 10, *, salt: int = 0, scored: bool = False) -> Sequence:
    ids = tuple(range(salt + 1, salt + prompt + 1))
    params = SamplingParams(max_tokens=9, prompt_logprobs=0 if scored else None)
    return Sequence(number, ids, params, 9, salt=salt)


def _chunks(turns: ChunkedPrefill, sequences: list[Sequence], room: int) -> list[tuple[int, int]]:
    return [(item.sequence.request_id, item.num_tokens) for item in turns.chunks(sequences, room)]


def test_the_model_gets_the_ids_of_its_own_vocabulary() -> None:
    salted = item_of(_sequence(1, salt=LORA.salt), 3, drafts=(LORA.salt + 40,))
    plain = item_of(_sequence(2), 3)
    assert (salted.ids, plain.ids) == ((1, 2, 3, 40), (1, 2, 3))
    assert salted.following_prompt_ids == plain.following_prompt_ids == (2, 3, 4)


def test_the_shortest_prompt_comes_first_and_in_each_fourth_step_the_oldest() -> None:
    turns, sequences = ChunkedPrefill(), [_sequence(0, 50), _sequence(1, 40), _sequence(2, 30)]
    firsts = []
    for _ in range(8):
        assert turns.chunks([], 16) == [], "a step without prompts is no turn"
        firsts.append(_chunks(turns, sequences, 16))
    assert firsts == [[(0, 16)], [(2, 16)], [(2, 16)], [(2, 16)]] * 2
    assert _chunks(turns, sequences, 55) == [(0, 50), (2, 5)]


def test_one_prompt_is_scored_at_a_time_and_a_bounded_part_of_it() -> None:
    sequences = [_sequence(number, 200, scored=True) for number in range(3)]
    assert _chunks(ChunkedPrefill(), [*sequences, _sequence(3, 20)], 500) == [(0, SCORED_PER_STEP), (3, 20)]


def test_adapters_take_turns_each_after_the_one_that_ran_longest_ago() -> None:
    rotation = AdapterRotation()
    plain, first, second = (_sequence(number, salt=number * LORA.salt) for number in range(3))
    assert rotation.next_of([]) == []
    ran = [rotation.next_of([second, plain, first]) for _ in range(4)]
    assert ran == [[plain], [first], [second], [plain]]
    assert rotation.next_of([first]) == [first]
    assert rotation.next_of([second, first, second]) == [second, second]
