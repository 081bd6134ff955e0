"""Who is let in when many ask: bounded, nobody locked out by another, and told a time that comes true."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glmserve.engine.client.admission import LONGEST_RETRY_S, AdmissionController, check_fit
from glmserve.engine.errors import PromptTooLong, QueueFull, QueueTooSlow, UnknownToken
from glmserve.engine.interface import Caller
from glmserve.engine.messages import EngineInfo
from glmserve.engine.params import SamplingParams

A, B, C = Caller("a"), Caller("b"), Caller("c")


def fill(admission: AdmissionController, caller: Caller, most: int = 1000, first: int = 0, now: float = 0.0) -> int:
    """Enter until somebody is refused; return how many were not."""
    for number in range(most):
        try:
            admission.enter(first + number, caller, now)
        except QueueFull:
            return number
    return most


def test_a_caller_who_is_alone_has_all_places() -> None:
    assert fill(AdmissionController(8, 64), A) == 72
    assert fill(AdmissionController(8, 0), A) == 8


def test_a_full_queue_takes_a_share_of_others_and_refuses_those_who_filled_it() -> None:
    admission = AdmissionController(8, 64)
    fill(admission, A)
    assert fill(admission, B, first=1000) == 16
    assert fill(admission, C, first=2000) == 11
    assert fill(admission, A, first=3000) == 0


def test_however_many_callers_come_there_is_a_bound() -> None:
    admission = AdmissionController(8, 64)
    admitted = sum(fill(admission, Caller(str(number)), 1, first=number) for number in range(1000))
    assert admitted == len(admission) == 8 + 2 * 64


def test_where_nobody_may_wait_nobody_does() -> None:
    admission = AdmissionController(2, 0)
    fill(admission, A)
    assert fill(admission, B, first=10) == 0


def test_requests_that_have_ended_do_not_count_towards_a_share() -> None:
    admission = AdmissionController(8, 64)
    fill(admission, A, 40)
    for number in range(30):
        admission.leave(number, 1.0)
    fill(admission, B, first=1000)
    assert fill(admission, A, first=2000) == 6


def crowded(running: int = 2, waiting: int = 10, each: float = 3.0) -> tuple[AdmissionController, float]:
    """A full queue of A's, of whose requests one ended every ``each`` seconds for a while; and the time."""
    admission = AdmissionController(running, waiting)
    fill(admission, A)
    for number in range(running + waiting):
        admission.leave(number, (number + 1) * each)
        admission.enter(1000 + number, A, (number + 1) * each)
    return admission, (running + waiting) * each


def test_when_to_come_back_goes_by_how_fast_requests_end() -> None:
    admission, now = crowded(each=3.0)
    with pytest.raises(QueueFull) as refusal:
        admission.enter(9000, A, now)
    assert refusal.value.waiting == 10
    assert 13 <= refusal.value.retry_after <= 17  # five of the ten that wait
    admission, now = crowded(each=60.0)
    with pytest.raises(QueueFull) as refusal:
        admission.enter(9000, A, now)
    assert refusal.value.retry_after == LONGEST_RETRY_S == 60  # clients of OpenAI ignore what is longer


def test_where_there_is_a_free_place_nobody_is_told_to_wait() -> None:
    admission, now = crowded(each=3.0)
    for number in range(12):
        admission.leave(1000 + number, now)
    admission.enter(9000, Caller("a", timeout_s=0.1), now)


def test_before_anything_has_ended_one_may_come_back_in_a_second() -> None:
    admission = AdmissionController(1, 1)
    fill(admission, A)
    with pytest.raises(QueueFull) as refusal:
        admission.enter(9, A, 1000.0)
    assert refusal.value.retry_after == 1


def test_who_would_wait_longer_than_he_may_is_told_at_once() -> None:
    admission, now = crowded(each=3.0)
    admission.leave(1000, now + 3)
    with pytest.raises(QueueTooSlow, match=r"expected wait of 28 s exceeds this request's timeout of 20 s") as refusal:
        admission.enter(9000, Caller("a", 20.0), now + 3)
    assert refusal.value.retry_after == 8
    admission.enter(9001, Caller("a", 60.0), now + 3)


def test_a_caller_who_has_nothing_yet_is_not_told_to_wait_for_those_of_another() -> None:
    admission, now = crowded(each=3.0)
    admission.enter(9000, Caller("b", 10.0), now)


def test_a_quiet_hour_does_not_make_the_next_wait_look_long() -> None:
    """The rate of ends is measured by a clock that stands still while nobody waits, until the very moment of asking."""
    admission, now = crowded(each=3.0)
    for number in range(10):
        admission.leave(1000 + number, now + 3.0 * (number + 1))
    assert len(admission) == 2
    later = now + 3600
    assert admission.expected_wait(1, later) == pytest.approx(3.0, abs=0.5)
    admission.enter(9000, Caller("b", 10.0), later)
    fill(admission, A, first=9100, now=later)
    with pytest.raises(QueueFull) as refusal:
        admission.enter(9999, A, later)
    assert 13 <= refusal.value.retry_after <= 17


def test_a_quiet_hour_before_the_crowd_does_not_make_the_wait_look_short() -> None:
    admission = AdmissionController(1, 3)
    fill(admission, A, now=3600.0)
    for number in range(3):
        admission.leave(number, 3600.0 + 3.0 * (number + 1))
    assert admission.expected_wait(4, 3600.0 + 9.0) == pytest.approx(4 * 2.0)  # six seconds for the three ends


def test_two_ends_tell_a_wait_and_nobody_is_refused_for_it_before_the_fourth() -> None:
    admission, impatient = AdmissionController(1, 20), Caller("b", timeout_s=0.5)
    fill(admission, A, 20)
    waits = []
    for number in range(4):
        admission.check(impatient, 3.0 * number)
        admission.leave(number, 3.0 * (number + 1))
        waits.append(admission.expected_wait(1, 3.0 * (number + 1)))
    assert waits == [0.0, 1.5, 2.0, 2.25]
    with pytest.raises(QueueTooSlow):
        admission.check(impatient, 12.0)


def test_times_when_nobody_waited_say_nothing() -> None:
    admission = AdmissionController(2, 10)
    for number in range(100):
        admission.enter(number, A, 100.0 * number)
        admission.leave(number, 100.0 * number + 90)
    fill(admission, A, first=1000, now=10_000)
    with pytest.raises(QueueFull) as refusal:
        admission.enter(9, A, 10_000.0)
    assert refusal.value.retry_after == 1


def test_what_was_not_taken_in_the_end_does_not_count_as_served() -> None:
    admission = AdmissionController(1, 5)
    fill(admission, A)
    for number in range(5):
        admission.leave(number, 0.0, served=False)
        admission.enter(number, A, 0.0)
    with pytest.raises(QueueFull) as refusal:
        admission.enter(9, A, 1000.0)
    assert refusal.value.retry_after == 1


@settings(max_examples=200, deadline=None)
@given(
    bounds=st.tuples(st.integers(1, 4), st.integers(0, 9)),
    events=st.lists(
        st.tuples(st.booleans(), st.integers(0, 30), st.sampled_from("abcd"), st.floats(0, 5)), max_size=80
    ),
)
def test_the_books_hold_whoever_comes_and_goes(
    bounds: tuple[int, int], events: list[tuple[bool, int, str, float]]
) -> None:
    running, waiting = bounds
    admission, now = AdmissionController(running, waiting), 0.0
    inside: dict[int, str] = {}
    for enters, request_id, name, seconds in events:
        now += seconds
        if not enters:
            admission.leave(request_id, now)
            inside.pop(request_id, None)
        elif request_id not in inside:
            own = sum(other == name for other in inside.values())
            try:
                admission.enter(request_id, Caller(name), now)
                inside[request_id] = name
            except QueueFull:
                assert len(inside) >= running + waiting
                assert own or not waiting or len(inside) >= running + 2 * waiting
        assert len(admission) == len(inside) <= running + 2 * waiting
    for request_id in inside:
        admission.leave(request_id, now)
    assert fill(admission, Caller("z", math.inf), first=100, now=now) == running + waiting


def test_a_caller_waits_behind_as_many_of_each_other_caller_as_it_has_itself() -> None:
    admission, now = crowded(running=1, waiting=10, each=3.0)
    turns = 2  # A's request and its own
    admission.enter(9000, Caller("b", timeout_s=turns * 3.5), now)
    with pytest.raises(QueueTooSlow):
        admission.enter(9001, Caller("b", timeout_s=turns * 3.5), now)


def test_a_caller_that_may_wait_for_just_as_long_as_it_takes_is_admitted() -> None:
    admission, now = crowded(running=1, waiting=10, each=3.0)
    wait = admission.expected_wait(2, now)  # for one of A's, and a place
    admission.check(Caller("b", timeout_s=wait), now)
    with pytest.raises(QueueTooSlow):
        admission.check(Caller("b", timeout_s=math.nextafter(wait, 0.0)), now)


def test_a_prompt_shares_the_context_with_the_prefix_of_its_adapter() -> None:
    info = EngineInfo(100, 100, 1, 50, "scripted", 0.0, prefix_tokens={"tuned": 10})
    check_fit(info, (1,) * 89, SamplingParams(max_tokens=1), "tuned")
    with pytest.raises(PromptTooLong):
        check_fit(info, (1,) * 90, SamplingParams(max_tokens=1), "tuned")
    check_fit(info, (1,) * 99, SamplingParams(max_tokens=1), "")


def test_a_prompt_has_a_token_at_least() -> None:
    info = EngineInfo(100, 100, 1, 50, "scripted", 0.0)
    check_fit(info, (1,), SamplingParams(max_tokens=1), "")
    with pytest.raises(PromptTooLong):
        check_fit(info, (), SamplingParams(max_tokens=1), "")


def test_a_bias_is_for_a_token_of_the_vocabulary() -> None:
    info = EngineInfo(100, 100, 1, 50, "scripted", 0.0)
    check_fit(info, (1,), SamplingParams(max_tokens=1, logit_bias=((49, 1.0),)), "")
    with pytest.raises(UnknownToken, match="50 is not a token id"):
        check_fit(info, (1,), SamplingParams(max_tokens=1, logit_bias=((50, 1.0),)), "")
