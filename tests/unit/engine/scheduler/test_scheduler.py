"""The four verbs of the scheduler, and what it tells about itself."""

from collections.abc import Mapping
from collections.abc import Sequence as Ordered

import pytest

from glmserve.engine.kv_cache.manager import LONG_PROMPT
from glmserve.engine.kv_cache.ops import Truncate
from glmserve.engine.messages import SampledToken
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.scheduler import MAX_ENDED, Scheduler, SchedulerConfig
from glmserve.engine.scheduler.step_budget import StepBudget
from glmserve.engine.sequence import Sequence
from glmserve.engine.speculative import SpeculativeController

BUDGET = StepBudget(64)
PROMPT, ANSWER = 10, 4


def scheduler(cells: int = 1000, parallel: int = 2, slots: int = 6) -> Scheduler:
    return Scheduler(SchedulerConfig(parallel=parallel, slots=slots, cells=cells, longest=100))


def sequence(number: int, answer: int = ANSWER, caller: str = "", *, background: bool = False) -> Sequence:
    ids = tuple(range(1000 * number, 1000 * number + PROMPT))
    return Sequence(number, ids, SamplingParams(answer), answer, caller=caller, background=background)


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


def decoding(*, limit: int = 256, speculation: SpeculativeController | None = None) -> Scheduler:
    """Three sequences that have output a token."""
    config = SchedulerConfig(parallel=4, slots=8, cells=1000, longest=500, decoding_limit=limit)
    one = Scheduler(config, speculation)
    for number in range(3):
        one.add(sequence(number, answer=50))
    step(one)
    return one


@pytest.mark.parametrize(("budget", "prompt"), [(9, 6), (4, 1), (3, 0), (2, 0)])
def test_prompts_get_what_the_answers_leave_of_the_budget(budget: int, prompt: int) -> None:
    one = decoding()
    one.add(sequence(9))
    batch = one.schedule(StepBudget(budget))
    assert [item.num_tokens for item in batch.items] == [1, 1, 1, *([prompt] if prompt else [])]


class _Rooms(SpeculativeController):
    """Notes the room for drafts of each step, and drafts nothing."""

    def __init__(self) -> None:
        super().__init__(frozenset())
        self.rooms: list[int] = []

    def propose(self, sequences: Ordered[Sequence], room: int, seconds: float) -> Mapping[int, tuple[int, ...]]:
        self.rooms.append(room)
        return {}


@pytest.mark.parametrize(("limit", "budget", "room"), [(256, 16, 13), (10, 16, 7), (256, 2, 0), (3, 16, 0)])
def test_drafts_get_what_the_answers_leave_of_the_budget_and_of_the_rows(limit: int, budget: int, room: int) -> None:
    speculation = _Rooms()
    one = decoding(limit=limit, speculation=speculation)
    one.schedule(StepBudget(budget))
    assert speculation.rooms[-1] == room


@pytest.mark.parametrize(("repeatable", "room"), [((True,), 1), ((True, True), 0), ((True, False), 62), ((False,), 63)])
def test_a_step_of_repeatable_sequences_has_room_for_one_draft_at_most(repeatable: tuple[bool, ...], room: int) -> None:
    speculation = _Rooms()
    one = Scheduler(SchedulerConfig(parallel=4, slots=8, cells=1000, longest=500), speculation)
    for number, repeats in enumerate(repeatable):
        added = sequence(number, answer=50)
        added.repeatable = repeats
        one.add(added)
    while one.decoding < len(repeatable):
        step(one)
    one.schedule(BUDGET)
    assert speculation.rooms[-1] == room


class _Drafts(_Rooms):
    """Drafts three tokens for the only sequence."""

    def propose(self, sequences: Ordered[Sequence], room: int, seconds: float) -> Mapping[int, tuple[int, ...]]:
        return {sequence.request_id: (7, 7, 7) for sequence in sequences}


@pytest.mark.parametrize("accepted", [0, 1, 3])
def test_the_cells_of_a_sequence_are_its_tokens_and_the_drafts_that_were_accepted(accepted: int) -> None:
    one = Scheduler(SchedulerConfig(parallel=4, slots=8, cells=1000, longest=500), _Drafts())
    one.add(sequence(1, answer=50))
    step(one)
    batch = one.schedule(BUDGET)
    assert [item.num_tokens for item in batch.items] == [4]
    one.update(batch, {1: (SampledToken(7),) * accepted + (SampledToken(8),)})
    assert list(one.cache.lengths.values()) == [PROMPT + 1 + accepted]
    truncated = [op for op in one.take_ops() if isinstance(op, Truncate)]
    assert truncated == ([] if accepted == 3 else [Truncate(batch.items[0].slot, PROMPT + 1 + accepted)])
    one.check_integrity()
    assert (one.steps, one.stats.generated_tokens) == (2, 1 + accepted + 1)


def test_nothing_is_drafted_beside_a_prompt() -> None:
    speculation = _Rooms()
    one = decoding(speculation=speculation)
    one.add(sequence(9))
    one.schedule(BUDGET)
    assert speculation.rooms[-1] == 0


def test_beside_a_long_prompt_idle_prefixes_leave_the_cells_though_others_decode() -> None:
    config = SchedulerConfig(parallel=4, slots=8, cells=4 * LONG_PROMPT, longest=2 * LONG_PROMPT)
    one = Scheduler(config)
    one.add(sequence(1, answer=1))
    step(one)
    one.add(sequence(2, answer=50))
    step(one)
    assert len(one.cache.lengths) == 2
    one.add(Sequence(3, tuple(range(-LONG_PROMPT, 0)), SamplingParams(1), 1))
    one.schedule(BUDGET)
    assert len(one.cache.lengths) == 1


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


def test_a_computed_pin_frees_the_slot_of_the_prefix_that_it_covers() -> None:
    one = scheduler()
    one.add(sequence(1, answer=1))
    step(one)
    pin = Sequence(9, tuple(range(1000, 1030)), SamplingParams(1), 1, pinned=True)
    one.pin_computed(pin)
    while one.has_work:
        step(one)
    assert one.cache.lengths == {pin.slot: 30}
    assert (one.cache.pinned_slots, one.cache.tokens_pinned) == (1, 30)


def test_the_integrity_check_covers_the_cache_and_the_tokens_of_each_sequence() -> None:
    one = scheduler()
    one.add(running := sequence(1))
    step(one)
    one.check_integrity()
    running.tokens[0] += 1
    with pytest.raises(AssertionError, match="a slot holds other tokens"):
        one.check_integrity()
    one.cache._free_slots = []
    with pytest.raises(AssertionError, match="a slot is lost"):
        one.check_integrity()


def test_the_background_is_computed_before_a_prefix_to_pin() -> None:
    one = scheduler()
    one.pin_computed(Sequence(9, tuple(range(500, 530)), SamplingParams(1), 1, pinned=True))
    one.add(sequence(1, answer=1, background=True))
    steps = [[item.sequence.request_id for item in one.schedule(BUDGET).items]]
    step(one)
    steps.append([item.sequence.request_id for item in one.schedule(BUDGET).items])
    assert steps == [[1], [9]]


def test_what_a_caller_had_is_forgotten_with_his_last_sequence() -> None:
    one = scheduler()
    one.add(sequence(1, caller="a"))
    while one.has_work:
        step(one)
    one.add(sequence(2, caller="a"))
    one.add(sequence(3, caller="b"))
    assert [waiting.request_id for waiting in one.waiting] == [2, 3]


@pytest.mark.parametrize("logprobs", [None, 2])
def test_probabilities_are_told_to_those_who_ask(logprobs: int | None) -> None:
    one = scheduler()
    one.add(Sequence(1, (1, 2, 3), SamplingParams(9, logprobs=logprobs), 9))
    (output,) = one.update(one.schedule(BUDGET), {1: (SampledToken(7),)})
    assert output.token_ids == (7,)
    assert output.logprobs == (() if logprobs is None else (SampledToken(7),))


def test_ended_sequences_are_told_once_and_the_last_ones_of_many() -> None:
    one = scheduler()
    for number in range(MAX_ENDED + 2):
        one.add(sequence(number, answer=1))
        step(one)
    assert [ended.request_id for ended in one.take_ended()] == list(range(2, MAX_ENDED + 2))
    assert one.take_ended() == ()
