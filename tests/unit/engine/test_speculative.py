"""Drafts change nothing but the time: the same answers, sooner where text repeats, and hardly later where not."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Ordered

from hypothesis import given, settings
from hypothesis import strategies as st

from glmserve.engine.messages import EngineStats, FinishReason, Submit
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.batch import BatchItem
from glmserve.engine.scheduler.step_budget import TokenBudgetPolicy
from glmserve.engine.sequence import Sequence
from glmserve.engine.speculative import (
    SHARE,
    STALE,
    AcceptanceEstimator,
    NgramMatch,
    NgramMatcher,
    SpeculativeController,
    StepCost,
)
from glmserve.engine.worker.core import EngineCore
from tests.support.scripted_runner import STOP_ID, Rule, ScriptedRunner, copied_token, lone_run, next_token


def _two_cores(tokens: int) -> float:
    """A batch of 8 costs five single steps."""
    return 1.0 + 0.55 * (tokens - 1)


def _gpu(tokens: int) -> float:
    return 1.0 + 0.01 * (tokens - 1)


class _Timed(ScriptedRunner):
    """A runner whose steps take time by their size."""

    def __init__(self, cost: Callable[[int], float], rule: Rule, parallel: int = 1, cells: int = 4000) -> None:
        super().__init__(cells, parallel + 4, parallel, context_length=min(3000, cells), rule=rule)
        self.decoding_limit = 256
        self._cost = cost
        self.now = 0.0
        self.stats = EngineStats()

    def decode(self, items: tuple[BatchItem, ...]) -> None:
        super().decode(items)
        self.now += self._cost(self.batches[-1])


def _run(
    runner: _Timed, prompts: list[tuple[int, ...]], params: SamplingParams, *, drafts: bool = True
) -> dict[int, list[int]]:
    speculation = SpeculativeController(runner.stop_ids) if drafts else None
    core = EngineCore(runner, TokenBudgetPolicy(1e9, 512), speculation=speculation, clock=lambda: runner.now)
    answers: dict[int, list[int]] = defaultdict(list)
    for request_id, prompt in enumerate(prompts):
        core.submit(Submit(request_id, prompt, params))
    while core.has_work:
        for output in core.step().outputs:
            answers[output.request_id] += output.token_ids
        core.check_integrity()
    runner.stats = core.stats
    return answers


def _copies(tokens: list[int]) -> int:
    return tokens[-10]


PROMPT = tuple(range(1, 11)) * 10


def _greedy(max_tokens: int, *, ignore_eos: bool = False) -> SamplingParams:
    return SamplingParams(max_tokens=max_tokens, temperature=0.0, ignore_eos=ignore_eos)


def test_an_answer_that_copies_its_prompt_comes_sooner_on_two_cores() -> None:
    """The best that two cores can give is 1/0.55: what a token costs alone, over what it costs in a long batch."""
    times = {}
    for speculation in (False, True):
        runner = _Timed(_two_cores, _copies)
        answer = _run(runner, [PROMPT], _greedy(400), drafts=speculation)[0]
        assert answer == lone_run(PROMPT, 400, _copies)
        times[speculation] = runner.now
    assert times[True] < 0.75 * times[False]


def test_on_a_gpu_copying_costs_next_to_nothing() -> None:
    times = {}
    for speculation in (False, True):
        runner = _Timed(_gpu, _copies)
        _run(runner, [PROMPT], _greedy(400), drafts=speculation)
        times[speculation] = runner.now
    assert times[True] < 0.2 * times[False]


def test_where_nothing_comes_true_it_costs_at_most_its_share() -> None:
    """Every third token breaks what the prompt makes expect, so that there is always a match and never luck."""

    def breaks(tokens: list[int]) -> int:
        return tokens[-10] if len(tokens) % 4 else 11 + len(tokens) % 39

    times = {}
    for speculation in (False, True):
        runner = _Timed(_two_cores, breaks)
        _run(runner, [PROMPT], _greedy(2000, ignore_eos=True), drafts=speculation)
        times[speculation] = runner.now
    assert times[True] <= (1 + SHARE) * times[False]


def test_the_first_answer_bears_no_more_than_its_share() -> None:
    """Two steps were once spent in advance: a twentieth of an answer of 64 tokens. Here drafts never save anything."""
    speculation = SpeculativeController(frozenset())
    sequence = Sequence(1, tuple(range(100)), SamplingParams(max_tokens=1000, temperature=0.0), 1000)
    speculation.observe_prompt(512, _two_cores(512))
    seconds = 0.0
    for token in range(64):
        sequence.tokens.append(token)
        sequence.num_computed_tokens = len(sequence.tokens) - 1
        drafts = speculation.propose([sequence], 100, 1e9)
        cost = _two_cores(1 + len(drafts.get(1, ())))
        speculation.observe(1, 0, cost)
        seconds += cost
    assert speculation.drafted_tokens > 0
    assert seconds <= (1 + SHARE) * 64


def _drafts_after(copied: Ordered[int]) -> int:
    """How many tokens are drafted after runs of so many tokens, each copied from another place without drafts.

    Before them are tokens that stand nowhere else, which fill the credit.
    """
    speculation = SpeculativeController(frozenset())
    sequence = Sequence(1, tuple(range(1000)), SamplingParams(max_tokens=1000, temperature=0.0), 1000)
    speculation.observe_prompt(512, _two_cores(512))
    answer = list(range(2000, 2200))
    answer += [100 * place + index for place, length in enumerate(copied) for index in range(length)]
    drafts: Mapping[int, tuple[int, ...]] = {}
    for count, token in enumerate(answer, 1):
        sequence.tokens.append(token)
        sequence.num_computed_tokens = len(sequence.tokens) - 1
        drafts = speculation.propose([sequence], 100, 1e9 if count == len(answer) else 0.0)
        speculation.observe(1, 0, 1.0)
    return len(drafts.get(1, ()))


def test_luck_is_learnt_from_guesses_that_nobody_paid_for() -> None:
    assert _drafts_after([5]) == 0
    assert _drafts_after([*[9] * 6, 5]) == 3, "copying has gone on for longer each time"
    assert _drafts_after([16]) == 3
    assert _drafts_after([*[17] * 6, 16]) == 1, "copying has ended with the seventeenth token each time"


def test_a_step_with_drafts_has_two_rows_or_a_multiple_of_four() -> None:
    """Kernels for matrices take rows by four: three cost as much as four."""
    runner = _Timed(_two_cores, _copies, parallel=3)
    _run(runner, [PROMPT, PROMPT[:50], PROMPT[:70]], _greedy(100))
    sizes = {rows for rows in runner.batches if 3 < rows < 50}
    assert sizes
    assert all(rows % 4 == 0 for rows in sizes), sizes


@settings(max_examples=100, deadline=None)
@given(
    requests=st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=60), min_size=1, max_size=8),
    parallel=st.integers(1, 4),
    rule=st.sampled_from([copied_token, next_token]),
    cost=st.sampled_from([_two_cores, _gpu]),
)
def test_drafts_never_change_an_answer(
    requests: list[list[int]], parallel: int, rule: Rule, cost: Callable[[int], float]
) -> None:
    prompts = [tuple(prompt) for prompt in requests]
    runner = _Timed(cost, rule, parallel=parallel, cells=400)
    answers = _run(runner, prompts, SamplingParams(max_tokens=60))
    assert [answers[i] for i in range(len(prompts))] == [lone_run(prompt, 60, rule) for prompt in prompts]
    assert runner.stats.accepted_tokens <= runner.stats.drafted_tokens
    assert not runner.samplers


def test_a_draft_ends_before_a_stop_token_and_before_the_end_of_the_answer() -> None:
    """A stop token that came true inside a draft would be followed by more tokens."""
    prompt = (*range(1, 21), STOP_ID) * 4 + tuple(range(1, 8))
    for max_tokens in range(1, 20):
        runner = _Timed(_gpu, lambda tokens: tokens[-21])
        answer = _run(runner, [prompt], _greedy(max_tokens))[0]
        assert answer == [*range(8, 21), STOP_ID][:max_tokens]
        assert bool(runner.stats.drafted_tokens) == (max_tokens > 3)


def test_a_match_is_found_at_its_latest_place_and_followed_from_there() -> None:
    lookup = NgramMatcher()
    tokens = [1, 2, 3, 4, 9, 9, 1, 2, 3, 5, 6, 7, 1, 2, 3]
    assert lookup.find(tokens) == NgramMatch(3, 9)
    tokens += [5, 6]
    assert lookup.find(tokens) == NgramMatch(5, 11)
    tokens += [8]
    assert lookup.find(tokens) is None


def test_a_longer_match_beats_a_later_one_once_it_is_followed() -> None:
    lookup = NgramMatcher()
    tokens = [5, 1, 2, 3, 4, 7, 8, 2, 3, 4, 6, 0, 5, 1, 2, 3]
    assert lookup.find(tokens) == NgramMatch(4, 4)
    tokens.append(4)
    assert lookup.find(tokens) == NgramMatch(5, 5)  # and not the later 2, 3, 4


def _seconds(cost: StepCost, tokens: int) -> float:
    seconds = cost.of(tokens)
    assert seconds is not None
    return seconds


def test_the_cost_of_a_size_that_was_never_seen_lies_on_the_line_between_its_neighbours() -> None:
    cost = StepCost()
    assert cost.of(1) is None
    cost.observe(1, 0.02)
    assert cost.of(4) is None
    cost.observe(512, 5.22, prompt=True)
    assert 0.09 < _seconds(cost, 8) < 0.1
    for _ in range(60):
        cost.observe(8, 0.06)
    assert 0.059 < _seconds(cost, 8) < 0.061
    assert cost.of(1) == 0.02


def test_a_single_slow_step_does_not_make_batches_look_dear() -> None:
    cost = StepCost()
    cost.observe(1, 0.02)
    cost.observe(1, 30.0)
    assert _seconds(cost, 1) < 0.03


def test_a_slow_step_of_a_prompt_does_not_make_batches_look_dear() -> None:
    """On a busy machine, one of 48 tokens took 200 ms instead of 5, and nothing was drafted."""
    cost = StepCost()
    cost.observe(1, 0.02)
    for seconds in (20.0, 0.96, 20.0):
        cost.observe(48, seconds, prompt=True)
    assert _seconds(cost, 2) < 0.05


def test_a_slow_first_draft_does_not_make_batches_look_dear() -> None:
    """One step of 2 tokens took 165 ms instead of 1, and nothing was drafted for ``STALE`` steps."""
    cost = StepCost()
    cost.observe(1, 0.02)
    cost.observe(48, 0.96, prompt=True)
    cost.observe(2, 3.0)
    assert _seconds(cost, 2) < 0.07


def test_a_batch_that_once_looked_dear_is_tried_again() -> None:
    cost = StepCost()
    cost.observe(512, 5.0, prompt=True)
    for _ in range(60):
        cost.observe(8, 3.0)
    assert _seconds(cost, 8) > 2
    for _ in range(STALE + 1):
        cost.observe(1, 0.02)
    assert _seconds(cost, 8) < 0.1


def test_luck_follows_what_was_seen_and_keeps_greedy_apart() -> None:
    luck = AcceptanceEstimator()
    for _ in range(100):
        luck.observe(4, 0, 8, greedy=False)
        luck.observe(4, 8, 8, greedy=True)
    assert luck.chances(4, 1, greedy=False)[0] < 0.15
    assert luck.chances(5, 1, greedy=True)[0] > 0.97


def test_a_token_further_on_in_a_guess_is_as_sure_as_one_from_a_longer_match() -> None:
    luck = AcceptanceEstimator()
    for _ in range(100):
        luck.observe(4, 4, 5, greedy=True)  # the fifth token of a match of 4 is like the first of one of 8
    assert luck.chances(4, 1, greedy=True)[0] > 0.9
    assert luck.chances(8, 1, greedy=True)[0] < 0.1


def test_ends_are_told_as_without_drafts() -> None:
    runner = _Timed(_gpu, _copies)
    speculation = SpeculativeController(runner.stop_ids)
    core = EngineCore(runner, TokenBudgetPolicy(1e9, 512), speculation=speculation, clock=lambda: runner.now)
    core.submit(Submit(1, PROMPT, SamplingParams(max_tokens=50, temperature=0.0)))
    reasons = [output.finish_reason for _ in range(50) if core.has_work for output in core.step().outputs]
    assert reasons[-1] is FinishReason.LENGTH
    assert not any(reasons[:-1])
