"""How long a step may be, and who takes part in it."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from glmserve.engine.messages import Submit
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.batch import BatchItem
from glmserve.engine.scheduler.step_budget import ANSWER_STEPS, FRESH, TRIES, DecodeTurns, StepBudget, TokenBudgetPolicy
from glmserve.engine.sequence import Sequence
from glmserve.engine.worker.core import EngineCore
from tests.support.scripted_runner import ScriptedRunner, lone_run
from tests.support.stepping import drain, tokens_of


def _sequence(number: int, prompt: int, generated: int = 0) -> Sequence:
    sequence = Sequence(number, (1,) * prompt, SamplingParams(max_tokens=9), max_tokens=9)
    sequence.tokens += [2] * generated
    return sequence


def test_the_pacer_sizes_steps_by_time_in_whole_rows_and_leaves_prompts_some_room() -> None:
    policy = TokenBudgetPolicy(0.25, 512)
    assert policy.step_budget(decoding=0).budget == 512
    assert policy.step_budget(decoding=2).budget == 16
    policy.observe(0.03, prompt=0, answers=2)
    assert policy.step_budget(decoding=2).budget == 16, "two tokens say nothing of a batch"
    policy.observe(0.5, prompt=98, answers=2)
    assert policy.step_budget(decoding=2).budget == 48
    policy.observe(500.0, prompt=98, answers=2)
    assert policy.step_budget(decoding=2).budget == 16
    assert policy.step_budget(decoding=9).budget == 32
    assert policy.step_budget(decoding=600).budget == 512


@pytest.mark.parametrize(
    ("per_token", "budget"), [(0.004, 64), (0.01, 32), (0.02, 32), (0.023, 32), (0.024, 16), (0.1, 16)]
)
def test_a_step_that_is_cheaper_for_a_token_may_take_some_targets_but_no_more(per_token: float, budget: int) -> None:
    """Steps of 16 tokens made chats a tenth slower on a machine with slow cores."""
    policy = TokenBudgetPolicy(0.25, 512, 64)
    policy.observe(16 * per_token, prompt=13, answers=3)
    assert policy.step_budget(decoding=3).budget == budget
    assert policy.background_budget(decoding=3).budget == 16, "a request that comes waits for half of it"


def test_one_slow_step_moves_the_estimate_by_a_quarter_and_ten_of_them_by_nearly_all() -> None:
    """With a weight of 1 one hiccup made the next step a tenth as long; with 0 nothing was ever learnt again."""
    policy = TokenBudgetPolicy(0.25, 512)
    policy.observe(0.1, prompt=98, answers=2)
    assert policy.step_budget(decoding=2).budget == 256, "1 ms a token"
    policy.observe(0.5, prompt=98, answers=2)
    assert policy.step_budget(decoding=2).budget == 128, "2 ms: a quarter of the way to 5"
    for _ in range(9):
        policy.observe(0.5, prompt=98, answers=2)
    assert policy.step_budget(decoding=2).budget == 48


def test_where_nobody_streams_a_step_is_longer_but_not_as_long_as_a_batch_may_take() -> None:
    """512 tokens take 20 s on a slow machine, and so long whoever asked meanwhile waited."""
    policy = TokenBudgetPolicy(0.25, 512)

    def run(per_token: float) -> int:
        for _ in range(20):
            tokens = policy.step_budget(0).budget
            policy.observe(tokens * per_token, tokens, 0)
        return policy.step_budget(decoding=0).budget

    policy.observe(512 * 0.004, 512, 0)
    assert policy.step_budget(decoding=0).budget == 128
    assert run(0.0005) == 512
    assert run(0.004) == 128, "half a second: halved as often as it takes, and no oftener"
    assert run(0.006) == 128, "not off by a factor of two"
    assert run(0.04) == 64
    assert run(0.1) == 64
    assert run(0.0001) == 512


def test_before_anything_is_known_a_step_is_short_and_doubles_where_that_is_cheap() -> None:
    """The first prompt of a slow machine was one step of a minute, which told no progress and held up all others."""

    def sizes(per_token: float) -> list[int]:
        policy = TokenBudgetPolicy(0.25, 512, unwatched=64)
        found = []
        for _ in range(5):
            found.append(policy.step_budget(decoding=0).budget)
            policy.observe(found[-1] * per_token, found[-1], 0)
        return found

    assert sizes(0.1) == [64] * 5
    assert sizes(0.0001) == [64, 128, 256, 512, 512]
    assert TokenBudgetPolicy(0.25, 32, unwatched=64).step_budget(decoding=0).budget == 32


def test_a_piece_of_prompts_alone_is_as_few_tiles_as_fill_the_time_and_none_where_one_is_too_long() -> None:
    def apart(seconds: float, max_tokens: int = 512, tile: int = 64) -> int:
        policy = TokenBudgetPolicy(0.25, max_tokens, tile)
        policy.observe(seconds, prompt=tile or 64, answers=0)
        budget = policy.step_budget(decoding=1)
        return budget.apart

    assert apart(0.5) == 64
    assert apart(0.1) == 128
    assert apart(0.01) == 512
    assert apart(1.4) == 64, "a busy host went to and fro between tiles of 0.7 to 1.2 s and dearer common steps"
    assert apart(3.0) == 0, "a 6B model: streams would stand still for seconds"
    assert apart(0.1, max_tokens=48) == 0
    assert apart(0.5, tile=0) == 0, "on a GPU answers cost nothing beside prompts"
    assert TokenBudgetPolicy(0.25, 512, 64).step_budget(1).apart == 0, "nothing is known yet"


def test_steps_in_the_background_stay_below_a_tile_too() -> None:
    policy = TokenBudgetPolicy(0.25, 512, tile=64)
    assert policy.background_budget(decoding=64).untiled == policy.step_budget(decoding=64).untiled == 60
    assert TokenBudgetPolicy(0.25, 512).step_budget(decoding=64).untiled == 0


def test_small_steps_and_those_of_whole_tiles_are_learnt_apart() -> None:
    """Steps of 16 tokens cost twice as much a token, and made every larger one look too slow."""
    policy = TokenBudgetPolicy(0.25, 512, tile=64)
    policy.observe(0.448, prompt=64, answers=0)
    for _ in range(50):
        policy.observe(0.22, prompt=14, answers=2)
    assert policy.step_budget(decoding=2).apart == 64


def test_answers_get_some_steps_after_one_of_prompts_but_not_more_time_than_half_of_it() -> None:
    policy = TokenBudgetPolicy(0.25, 512, tile=64)

    def steps_of_answers(each: float) -> int:
        policy.step_budget(decoding=4)
        policy.observe(0.5, prompt=64, answers=0)
        steps = 0
        while policy.step_budget(decoding=4).answers_next:
            policy.observe(each, prompt=0, answers=4)
            steps += 1
        return steps

    assert steps_of_answers(0.05) == ANSWER_STEPS
    assert steps_of_answers(0.15) == 2
    assert steps_of_answers(0.4) == 1
    policy.step_budget(decoding=4)
    policy.observe(0.5, prompt=64, answers=0)
    policy.observe(0.2, prompt=12, answers=4)
    assert not policy.step_budget(decoding=4).answers_next, "they had their turn beside prompts"


def test_answers_get_no_steps_after_one_of_prompts_that_none_of_them_waited_for() -> None:
    """The first of eight answers to one prompt had three steps for itself while seven prompts waited."""
    policy = TokenBudgetPolicy(0.25, 512, tile=64)
    policy.step_budget(decoding=0)
    policy.observe(0.5, prompt=64, answers=0)
    assert not policy.step_budget(decoding=1).answers_next


def test_answers_and_prompts_share_a_step_unless_a_long_prompt_has_enough_left_for_one() -> None:
    """Prompts of their own for many were once computed apart from answers, because they were long together."""
    streams = [_sequence(1, 3, generated=1), _sequence(2, 3, generated=1)]
    short, shorter, long = _sequence(3, 200), _sequence(4, 100), _sequence(5, 300)
    for turn in (False, True):
        budget = StepBudget(budget=16, apart=64, long_from=256, answers_next=turn)

        def apart(*prompts: Sequence, turn: bool = turn, budget: StepBudget = budget) -> bool:
            shared = budget.share([prompts[0], *streams, *prompts[1:]], 1000)[:3]
            assert shared in ((streams, list(prompts), 16), (streams, [], 16) if turn else ([], list(prompts), 64))
            return shared != (streams, list(prompts), 16)

        long.num_computed_tokens = long.cached_tokens = 0
        assert not apart(short, shorter)
        assert apart(short, long)
        assert budget.share([short, long], 1000)[:3] == ([], [short, long], 16), "nobody streams"
        long.num_computed_tokens = 236
        assert apart(long, short), "64 of it are left"
        long.num_computed_tokens = 237
        assert not apart(long, short)
        long.num_computed_tokens = long.cached_tokens = 100
        assert not apart(long, short), "what was cached does not count: it costs nothing"


def test_short_prompts_that_share_most_cells_are_computed_in_tiles_of_all_of_them() -> None:
    """Eight prompts with one beginning were computed by 16 tokens, in each of which attention visited it row by row."""
    stream = _sequence(1, 812, generated=1)
    prompts = [_sequence(number, 812) for number in range(2, 9)]
    for prompt in prompts:
        prompt.num_computed_tokens = prompt.cached_tokens = 800
    budget = StepBudget(budget=16, apart=64, long_from=256)
    assert budget.share([stream, *prompts], 900)[:3] == ([], prompts, 64)
    assert budget.share([stream, *prompts[:5]], 900)[:3] == ([stream], prompts[:5], 16), "60 tokens are left"
    assert budget.share([stream, *prompts], 1601)[:3] == ([stream], prompts, 16), "others have as many cells"


def test_steps_of_many_short_chats_stay_below_a_tile_so_that_each_row_visits_its_own_cells_alone() -> None:
    """64 chats with prompts of 30 tokens took 1.5 times as long: each of 80 rows visited the cells of all."""
    streams = [_sequence(number, 30, generated=9) for number in range(1, 61)]
    for stream in streams:
        stream.num_computed_tokens = 38
    prompts = [_sequence(number, 30) for number in range(61, 65)]
    budget = StepBudget(budget=80, apart=64, long_from=256, untiled=60)
    assert budget.share([*streams, *prompts], 60 * 38) == (streams, prompts, 60, 44)
    few = (streams[0], streams[1], prompts[0])
    assert budget.share([*few], 76)[2] == 80, "each has half of the cells"
    assert budget.share([*few], 200)[2] == 60
    long = _sequence(65, 3000)
    assert replace(budget, apart=0).share([*streams, long], 60 * 38)[2] == 80, "a long prompt is read in tiles"
    assert replace(budget, untiled=0).share([*streams, *prompts], 60 * 38)[2] == 80, "a GPU has no tiles"


class _Timed(ScriptedRunner):
    """Takes ten milliseconds a token, and notes what each step computed."""

    def __init__(self, parallel: int = 4, seconds: float = 0.01) -> None:
        super().__init__(cells=8000, slots=3 * parallel, parallel=parallel, context_length=2000)
        self.seconds = seconds
        self.now = 0.0
        self.steps: list[tuple[int, int]] = []

    def decode(self, items: tuple[BatchItem, ...]) -> None:
        super().decode(items)
        answers = sum(item.sequence.is_decoding for item in items)
        tokens = sum(len(item.ids) for item in items)
        self.steps.append((tokens - answers, answers))
        self.now += self.seconds * tokens


def test_streams_and_a_long_prompt_take_turns_and_say_what_they_say_alone() -> None:
    runner = _Timed()
    core = EngineCore(runner, TokenBudgetPolicy(0.25, 512, tile=64), clock=lambda: runner.now)
    prompts = [(3,) * 64, (4, 5), (6, 7, 8), tuple(1 + i % 7 for i in range(1000))]
    answers = [lone_run(prompt, 40) for prompt in prompts]
    for number, prompt in enumerate(prompts[:3]):
        core.submit(Submit(number, prompt, SamplingParams(max_tokens=40)))
        core.step()
    core.submit(Submit(3, prompts[3], SamplingParams(max_tokens=40)))
    runner.steps.clear()
    outputs = drain(core)
    longest = max(len(answers[number]) for number in (1, 2))
    beside = runner.steps[:longest]
    assert all(prompt == 0 or answers == 0 for prompt, answers in beside)
    assert {prompt for prompt, _ in beside} == {0, 64}
    turns = "".join("P" if prompt else "a" for prompt, _ in beside).split("P")
    assert {len(turn) for turn in turns[1:-1]} == {ANSWER_STEPS}
    assert tokens_of(outputs[3]) == answers[3]


def test_streams_take_turns_below_a_tile_while_prompts_wait_and_all_say_what_they_say_alone() -> None:
    runner = _Timed(parallel=64, seconds=0.0001)
    runner.rule = _endless
    core = EngineCore(runner, TokenBudgetPolicy(0.25, 512, tile=64), clock=lambda: runner.now)
    prompts = [tuple(1 + number * i % 7 for i in range(1, 30)) for number in range(1, 65)]
    answers = [lone_run(prompt, 90, _endless) for prompt in prompts]
    for number, prompt in enumerate(prompts):
        core.submit(Submit(number, prompt, SamplingParams(max_tokens=90)))
    outputs = drain(core)
    assert max(prompt + answers for prompt, answers in runner.steps if answers and prompt) == 60
    assert (16, 44) in runner.steps
    assert [tokens_of(outputs[number]) for number in range(64)] == answers


def turns(seconds: Mapping[int, float]) -> DecodeTurns:
    """Return what is known after steps of these numbers of sequences."""
    known = DecodeTurns()
    for number, took in seconds.items():
        for _ in range(TRIES):
            known.observe(number, took)
    return known


def test_all_are_decoded_first_and_then_fewer_in_turn_until_each_was_timed() -> None:
    known = DecodeTurns()
    tried = []
    for _ in range(6):
        tried.append(known.at_once(9))
        known.observe(tried[-1], 0.01 * tried[-1])
    assert tried == [9, 9, 5, 5, 8, 8]
    assert known.at_once(9) == 9


@pytest.mark.parametrize(
    ("decoding", "seconds", "best"),
    [
        (8, {8: 0.185, 4: 0.080}, 4),
        (8, {8: 0.165, 4: 0.080}, 8),  # 3 % faster: not worth the longer wait
        (8, {8: 0.040, 4: 0.038}, 8),  # bound by memory: a step of four reads all weights too
        (17, {17: 0.309, 9: 0.193, 16: 0.233}, 16),
        (7, {7: 0.141, 4: 0.080}, 7),
        (4, {4: 0.5, 2: 0.01}, 4),
    ],
)
def test_sequences_take_turns_where_that_gives_more_tokens_a_second(
    decoding: int, seconds: Mapping[int, float], best: int
) -> None:
    assert turns(seconds).at_once(decoding) == best


def test_of_many_sequences_as_many_are_tried_as_are_below_a_tile() -> None:
    known = DecodeTurns(untiled=60)
    rates = {128: 0.100, 64: 0.050, 124: 0.097, 60: 0.020}
    for number, took in rates.items():
        for _ in range(TRIES):
            assert known.at_once(128) == number
            known.observe(number, took)
    assert known.at_once(128) == 60


def test_one_slow_step_by_chance_does_not_count() -> None:
    known = turns({4: 0.080})
    known.observe(8, 0.9)
    known.observe(8, 0.1)
    assert known.at_once(8) == 8


def test_what_was_not_done_for_long_is_timed_again() -> None:
    """Eight answers of a few tokens were once compared with four of a thousand."""
    known = turns({8: 0.185, 4: 0.080})
    for _ in range(FRESH):
        assert known.at_once(8) == 4
        known.observe(4, 0.080)
        if known.at_once(8) == 8:
            break
    for _ in range(TRIES):
        assert known.at_once(8) == 8
        known.observe(8, 0.100)
    assert known.at_once(8) == 8


def _endless(tokens: list[int]) -> int:
    return 10 + sum(tokens) % 50


class _Tiles(ScriptedRunner):
    """Takes ten milliseconds a row up to four rows, and from five rows on as long as for sixteen."""

    def __init__(self) -> None:
        super().__init__(cells=4000, slots=20, parallel=8, context_length=2000, rule=_endless)
        self.now = 0.0
        self.sizes: list[int] = []

    def decode(self, items: tuple[BatchItem, ...]) -> None:
        super().decode(items)
        rows = sum(len(item.ids) for item in items)
        self.now += 0.01 * rows if rows <= 4 else 0.16
        if all(item.sequence.is_decoding for item in items):
            self.sizes.append(rows)


def test_eight_answers_of_two_callers_are_faster_four_by_four_and_say_what_they_say_alone() -> None:
    runner = _Tiles()
    core = EngineCore(runner, TokenBudgetPolicy(0.25, 512), clock=lambda: runner.now)
    prompts = [(3 + number, 5) for number in range(8)]
    for number, prompt in enumerate(prompts):
        caller = "ann" if number < 4 else "bob"
        core.submit(Submit(number, prompt, SamplingParams(max_tokens=40), caller=caller))
    outputs = drain(core)
    assert runner.sizes.count(8) == TRIES
    assert runner.sizes.count(4) > 70
    for number, prompt in enumerate(prompts):
        assert tokens_of(outputs[number]) == lone_run(prompt, 40, _endless)
