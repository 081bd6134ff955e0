"""Which sequences start: those that find a place and cells, bypass what lacks room, and preempt the background."""

import pytest

from glmserve.engine.kv_cache.manager import KvCacheManager
from glmserve.engine.kv_cache.ops import CopyPrefix
from glmserve.engine.messages import FinishReason
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.prefill_adder import LOOK_AHEAD, MAX_BYPASSES, PrefillAdder
from glmserve.engine.scheduler.waiting_queue import WaitingQueue
from glmserve.engine.sequence import Sequence, SequenceStatus

ANSWER = 11


class Setup:
    """A cache, a queue and the adder between them; ``finish`` does what the scheduler would."""

    def __init__(self, cells: int = 100, parallel: int = 4, spare_slots: int = 4) -> None:
        self.cache = KvCacheManager(cells, parallel + spare_slots)
        self.waiting = WaitingQueue()
        self.running: dict[int, Sequence] = {}
        self.adder = PrefillAdder(self.cache, self.waiting, self.running, parallel, self.finish)

    def finish(self, sequence: Sequence, reason: FinishReason) -> None:
        del self.running[sequence.request_id]
        self.waiting.end(sequence)
        self.cache.keep(sequence.slot)
        sequence.status, sequence.finish_reason = SequenceStatus.FINISHED, reason

    def add(self, number: int, prompt: int = 10, *, background: bool = False, own: bool = True) -> Sequence:
        ids = tuple(range(1000 * number * own + 1, 1000 * number * own + prompt + 1))
        sequence = Sequence(number, ids, SamplingParams(ANSWER), ANSWER, caller="", background=background)
        self.waiting.add(sequence)
        return sequence

    def compute(self, sequence: Sequence, tokens: int) -> None:
        start = sequence.num_computed_tokens
        self.cache.extend(sequence.slot, sequence.tokens[start : start + tokens], end=start + tokens, drafted=False)
        sequence.num_computed_tokens += tokens

    def admit(self) -> tuple[list[int], list[int]]:
        admitted, preempted = self.adder.admit()
        self.cache.check_integrity(self.adder.reserved)
        return [s.request_id for s in admitted], [s.request_id for s in preempted]


def test_sequences_start_until_all_places_are_taken() -> None:
    setup = Setup(cells=1000, parallel=2)
    for number in range(3):
        setup.add(number)
    assert setup.admit() == ([0, 1], [])
    assert (setup.adder.num_answering, len(setup.waiting)) == (2, 1)
    assert setup.adder.reserved == 2 * (10 + ANSWER - 1)
    assert all(s.status is SequenceStatus.RUNNING and s.slot >= 0 for s in setup.running.values())
    setup.finish(setup.running[0], FinishReason.STOP)
    assert setup.admit() == ([2], [])


@pytest.mark.parametrize(("spare_slots", "pinned", "started"), [(-1, 0, 3), (0, 0, 4), (0, 1, 3), (1, 2, 3), (2, 2, 4)])
def test_no_more_start_than_there_are_slots_beside_pinned_prefixes(spare_slots: int, pinned: int, started: int) -> None:
    setup = Setup(cells=1000, parallel=4, spare_slots=spare_slots)
    for number in range(pinned):
        setup.cache.pin((9000 + number, 9000))
    for number in range(5):
        setup.add(number)
    assert setup.admit() == (list(range(started)), [])
    setup.finish(setup.running[0], FinishReason.STOP)
    assert setup.admit() == ([started], [])


def test_room_is_for_the_prompt_and_the_whole_answer() -> None:
    setup = Setup(cells=2 * (10 + ANSWER - 1))
    for number in range(3):
        setup.add(number)
    assert setup.admit() == ([0, 1], [])
    assert Setup(cells=2 * (10 + ANSWER - 1) - 1).adder.admit() == ((), ())


def test_a_shorter_one_starts_before_one_that_lacks_room_and_is_counted() -> None:
    setup = Setup()
    setup.add(0, prompt=60)
    assert setup.admit() == ([0], [])
    long = setup.add(1, prompt=50)
    for number in range(2, 5):
        setup.add(number, prompt=2)
    assert setup.admit() == ([2, 3], [])
    assert long.bypass_count == 2


@pytest.mark.parametrize(("bypassed", "admitted"), [(LOOK_AHEAD - 1, [99]), (LOOK_AHEAD, [])])
def test_a_step_looks_for_room_for_a_bounded_number_of_sequences(bypassed: int, admitted: list[int]) -> None:
    setup = Setup()
    setup.add(0, prompt=60)
    setup.admit()
    for number in range(1, bypassed + 1):
        setup.add(number, prompt=50)
    setup.add(99, prompt=2)
    assert setup.admit() == (admitted, [])


@pytest.mark.parametrize(("bypasses", "admitted"), [(MAX_BYPASSES - 1, [2]), (MAX_BYPASSES, [])])
def test_one_that_was_bypassed_often_enough_is_next(bypasses: int, admitted: list[int]) -> None:
    setup = Setup()
    setup.add(0, prompt=60)
    setup.admit()
    setup.add(1, prompt=50).bypass_count = bypasses
    setup.add(2, prompt=2)
    assert setup.admit() == (admitted, [])


def test_a_sequence_starts_from_the_longest_cached_prefix() -> None:
    setup = Setup(cells=300)
    first = setup.add(0, prompt=80, own=False)
    setup.admit()
    setup.compute(first, 80)
    setup.finish(first, FinishReason.STOP)
    setup.cache.take_ops()
    second = setup.add(1, prompt=100, own=False)
    assert setup.admit() == ([1], [])
    assert second.num_computed_tokens == second.cached_tokens == 80
    assert setup.cache.take_ops() == (CopyPrefix(first.slot, second.slot, 80),)
    assert (setup.adder.prompt_tokens, setup.adder.cached_tokens) == (80 + 100, 80)


def test_a_sequence_waits_for_a_prefix_that_a_running_one_computes() -> None:
    setup = Setup(cells=400)
    owner = setup.add(0, prompt=80, own=False)
    follower = setup.add(1, prompt=90, own=False)
    setup.add(2)
    assert setup.admit() == ([0, 2], [])
    awaited = follower.prefix_owner
    assert awaited is owner
    assert follower.bypass_count == 0, "it does not lack room"
    setup.compute(owner, 80)
    assert setup.admit() == ([1], [])
    assert (follower.cached_tokens, follower.prefix_owner) == (80, None)


def test_a_prefix_to_pin_starts_first_and_needs_no_place() -> None:
    setup = Setup(cells=1000, parallel=1)
    setup.add(0)
    setup.adder.to_pin.append(Sequence(9, tuple(range(500, 540)), SamplingParams(ANSWER), 1, pinned=True))
    assert setup.admit() == ([9, 0], [])
    assert not setup.adder.to_pin
    assert (setup.adder.num_answering, setup.adder.prompt_tokens) == (1, 10)


def test_the_background_starts_last_and_gives_its_place_to_a_request() -> None:
    setup = Setup(cells=1000, parallel=2)
    first, second = (setup.add(number, background=True) for number in range(2))
    assert setup.admit() == ([0, 1], [])
    setup.compute(second, 10)
    second.tokens += [7, 8]
    setup.add(2)
    assert setup.admit() == ([2], [1]), "the one that started last goes first"
    assert (second.status, second.finish_reason) == (SequenceStatus.WAITING, None)
    assert (second.num_prompt_tokens, second.max_tokens, second.num_answered_tokens) == (12, ANSWER - 2, 2)
    assert first.status is SequenceStatus.RUNNING


def test_the_background_gives_its_place_though_a_request_runs_beside_it() -> None:
    setup = Setup(cells=1000, parallel=2)
    setup.add(0, background=True)
    setup.add(1)
    assert setup.admit() == ([1, 0], [])
    setup.add(2)
    assert setup.admit() == ([2], [0])


def test_a_preempted_sequence_is_counted_once() -> None:
    setup = Setup(cells=1000, parallel=1)
    waiting = setup.add(0, background=True)
    setup.admit()
    setup.add(1)
    _, preempted = setup.adder.admit()
    assert preempted == (waiting,)
    setup.waiting.add(waiting)
    setup.finish(setup.running[1], FinishReason.STOP)
    assert setup.admit() == ([0], [])
    assert setup.adder.prompt_tokens == 2 * 10


def test_no_more_of_the_background_is_preempted_than_a_request_needs() -> None:
    setup = Setup(cells=100, parallel=4)
    for number in range(4):
        setup.add(number, background=True)
    assert setup.admit() == ([0, 1, 2, 3], [])
    setup.add(4, prompt=50)
    assert setup.admit() == ([4], [3, 2])


def test_a_prompt_that_is_being_scored_is_not_preempted() -> None:
    setup = Setup(cells=1000, parallel=1)
    ids = tuple(range(1, 11))
    setup.waiting.add(Sequence(0, ids, SamplingParams(ANSWER, prompt_logprobs=0), ANSWER, background=True))
    setup.admit()
    setup.add(1)
    assert setup.admit() == ([], [])
