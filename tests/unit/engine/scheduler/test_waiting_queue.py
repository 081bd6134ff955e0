"""Callers take turns, whatever each of them asks for."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glmserve.engine.kv_cache.manager import MIN_SHARED
from glmserve.engine.messages import Submit
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.prefill_adder import MAX_BYPASSES
from glmserve.engine.scheduler.step_budget import TokenBudgetPolicy
from glmserve.engine.scheduler.waiting_queue import GENERATED, WaitingQueue, by_caller, has_prefix_owner
from glmserve.engine.sequence import Sequence
from glmserve.engine.worker.core import EngineCore
from tests.support.scripted_runner import ScriptedRunner, lone_run
from tests.support.stepping import drain, tokens_of


def sequence(request_id: int, caller: str) -> Sequence:
    return Sequence(request_id, (1, 2, 3), SamplingParams(max_tokens=1), 1, caller=caller)


def order(queue: WaitingQueue, cost: int = 10) -> str:
    """Take all, each of which costs the same; return whose they were."""
    taken = ""
    while len(queue):
        chosen = next(queue.in_turn())
        queue.take(chosen, cost)
        taken += chosen.caller
    return taken


def queue_of(callers: str) -> WaitingQueue:
    queue = WaitingQueue()
    for number, caller in enumerate(callers):
        queue.add(sequence(number, caller))
    return queue


def test_callers_take_turns_and_the_requests_of_each_keep_their_order() -> None:
    assert order(queue_of("aaaaab")) == "abaaaa"
    assert order(queue_of("aaabbbc")) == "abcabab"
    queue = queue_of("aaa")
    assert [one.request_id for one in queue.in_turn()] == [0, 1, 2]


def test_who_has_asked_for_much_waits_for_those_who_have_not() -> None:
    queue = queue_of("aaaabbbb")
    queue.take(next(queue.in_turn()), 1000)
    assert order(queue) == "bbbbaaa"


def test_what_an_answer_takes_counts() -> None:
    queue = queue_of("aabb")
    running = next(queue.in_turn())
    queue.take(running, 10)
    queue.take(next(queue.in_turn()), 10)
    queue.generated(running, 5)
    assert [one.caller for one in queue.in_turn()] == ["b", "a"]
    assert 10 + 5 * GENERATED > 10


def test_nobody_saves_up_by_not_asking() -> None:
    queue = queue_of("aaaaaa")
    for _ in range(3):
        queue.take(next(queue.in_turn()), 100)
    for number in range(10, 16):
        queue.add(sequence(number, "b"))
    assert order(queue, 100) == "bababab" + "bb"


def test_who_comes_is_measured_by_those_who_wait_beside_him() -> None:
    """Neither by a caller who waits no more, nor by those in the background."""
    queue = queue_of("raa")
    queue.take(next(queue.in_turn()), 1)
    queue.add(Sequence(7, (1, 2, 3), SamplingParams(max_tokens=1), 1, caller="c", background=True))
    queue.take(next(queue.in_turn()), 1000)
    for number in (8, 9):
        queue.add(sequence(number, "b"))
    taken = ""
    while (chosen := next(queue.in_turn(), None)) is not None:
        queue.take(chosen, 100)
        taken += chosen.caller
    assert taken == "bab"


def test_who_comes_back_while_one_of_his_still_runs_has_saved_nothing_up() -> None:
    queue = queue_of("abbbbb")
    queue.take(next(queue.in_turn()), 1)
    for _ in range(3):
        queue.take(next(queue.in_turn()), 100)
    for number in range(10, 13):
        queue.add(sequence(number, "a"))
    assert order(queue, 100) == "ababa"


def test_who_comes_begins_with_what_the_least_served_has_had() -> None:
    queue = queue_of("bbcc")
    queue.take(next(queue.in_turn()), 300)
    queue.take(next(queue.in_turn()), 100)
    for number in (8, 9):
        queue.add(sequence(number, "d"))
    assert order(queue, 1000) == "dcbd"


def test_who_has_had_much_and_asks_again_meanwhile_is_not_excused() -> None:
    queue = queue_of("abbb")
    queue.take(next(queue.in_turn()), 1000)
    queue.add(sequence(10, "a"))
    assert order(queue, 100) == "bbba"


def test_where_nobody_waits_who_comes_begins_at_the_last_turn() -> None:
    queue = queue_of("aa")
    for _ in range(2):
        queue.take(next(queue.in_turn()), 1000)
    for number, caller in enumerate("bbba", 10):
        queue.add(sequence(number, caller))
    assert order(queue, 600) == "bbab"


@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize(("come", "begin"), [("aabb", "abab"), ("bbaa", "baba")])
def test_who_had_the_machine_for_himself_owes_nothing(come: str, begin: str, *, dropped: bool) -> None:
    queue = queue_of("aa" if dropped else "a")
    alone = next(queue.in_turn())
    queue.take(alone, 100_000)
    queue.end(alone)
    if dropped:
        queue.drop(1)
    for number, caller in enumerate(come, 10):
        queue.add(sequence(number, caller))
    assert order(queue) == begin


def test_the_first_ones_of_each_come_first() -> None:
    assert by_caller("aaabbc", str) == ["a", "b", "c", "a", "b", "a"]
    assert by_caller("", str) == []


@settings(max_examples=200, deadline=None)
@given(
    callers=st.text("abc", min_size=1, max_size=60),
    costs=st.lists(st.integers(1, 50), min_size=60, max_size=60),
    ends=st.lists(st.booleans(), min_size=60, max_size=60),
    dropped=st.sets(st.integers(0, 59)),
)
def test_between_two_who_wait_neither_gets_more_than_one_request_ahead(
    callers: str, costs: list[int], ends: list[bool], dropped: set[int]
) -> None:
    queue = queue_of(callers)
    for number in dropped:
        found = queue.drop(number)
        assert (found is not None) == (number < len(callers))
    left = Counter(one.caller for one in queue)
    spent = Counter(dict.fromkeys(left, 0))
    while len(queue):
        chosen = next(queue.in_turn())
        cost = costs[chosen.request_id]
        queue.take(chosen, cost)
        if ends[chosen.request_id] and left[chosen.caller] > 1:
            queue.end(chosen)
        left[chosen.caller] -= 1
        spent[chosen.caller] += cost
        waiting = [spent[caller] for caller in left if left[caller]]
        assert not waiting or max(waiting) - min(waiting) <= max(costs)
    assert not list(queue)


def core_of(runner: ScriptedRunner) -> EngineCore:
    return EngineCore(runner, TokenBudgetPolicy(1e9, 64), clock=lambda: 0.0)


def submit(core: EngineCore, request_id: int, caller: str, max_tokens: int = 6, prompt: int = 3) -> None:
    ids = tuple(1 + (request_id * 7 + place) % 43 for place in range(prompt))
    assert (
        core.submit(Submit(request_id, ids, SamplingParams(max_tokens=max_tokens, ignore_eos=True), "", caller)) is None
    )


def test_one_request_beside_a_hundred_waits_for_one_place() -> None:
    """In order of arrival it would have waited for all of them."""
    core = core_of(ScriptedRunner(cells=2000, slots=12, parallel=4, context_length=100))
    for request_id in range(100):
        submit(core, request_id, "many")
    core.step()
    submit(core, 100, "one")
    ended: list[int] = []
    while 100 not in ended:
        ended += (output.request_id for output in core.step().outputs if output.finish_reason)
    assert len(ended) <= 4 + 4
    assert len(drain(core)) == 100 - (len(ended) - 1)


def test_where_not_all_decode_in_a_step_the_one_of_another_caller_always_does() -> None:
    runner = ScriptedRunner(cells=2000, slots=16, parallel=8, context_length=500)
    runner.decoding_limit = 3
    core = core_of(runner)
    for request_id in range(8):
        submit(core, request_id, "one" if request_id == 5 else "many", 40)
    core.step()
    given = Counter(output.request_id for _ in range(14) for output in core.step().outputs)
    assert given == {5: 14} | dict.fromkeys((0, 1, 2, 3, 4, 6, 7), 4)


def test_short_requests_begin_before_one_for_which_there_is_no_room() -> None:
    core = core_of(ScriptedRunner(cells=200, slots=12, parallel=4, context_length=200))
    submit(core, 0, "a", max_tokens=90)
    core.step()
    submit(core, 1, "b", prompt=150)
    submit(core, 2, "c")
    ends: list[int] = []
    while core.has_work:
        ends += (output.request_id for output in core.step().outputs if output.finish_reason)
    assert ends == [2, 0, 1]


def test_one_for_which_there_is_no_room_is_bypassed_a_bounded_number_of_times() -> None:
    """The short ones end one at a time, so without the bound there would never be room for the long one."""
    core = core_of(ScriptedRunner(cells=200, slots=12, parallel=4, context_length=200))
    for request_id in range(4):
        submit(core, request_id, "short", max_tokens=10 * (request_id + 1))
    core.step()
    submit(core, 999, "long", prompt=150)
    begun: set[int] = set()
    for request_id in range(4, 4 + 20 * MAX_BYPASSES):
        submit(core, request_id, "short", max_tokens=40)
        begun |= {output.request_id for output in core.step().outputs} - set(range(4))
        if 999 in begun:
            break
    core.check_integrity()
    assert len(begun - {999}) == MAX_BYPASSES
    assert 999 in begun


def test_nobody_waits_for_a_prompt_that_is_scored_where_the_cache_has_it_already() -> None:
    """A prompt that is scored is computed from its start, 64 tokens a step, and others waited for that."""
    core = core_of(ScriptedRunner(cells=4000, slots=12, parallel=4, context_length=1000))
    prompt = tuple(1 + place % 43 for place in range(600))
    core.submit(Submit(1, prompt, SamplingParams(max_tokens=1)))
    drain(core)
    core.submit(Submit(2, prompt, SamplingParams(max_tokens=1, prompt_logprobs=0)))
    core.step()
    core.submit(Submit(3, (*prompt, 5), SamplingParams(max_tokens=1)))
    assert [output.request_id for output in core.step().outputs if output.token_ids] == [3]
    outputs = drain(core)
    assert tokens_of(outputs[2]) == lone_run(prompt, 1)


def test_a_prefix_is_waited_for_though_an_older_sequence_is_already_decoding() -> None:
    prompt = tuple(range(1, 65))
    decoding, owner, waiting = (Sequence(number, prompt, SamplingParams(max_tokens=9), 9) for number in range(3))
    decoding.tokens.append(1)
    decoding.num_computed_tokens = len(prompt)
    assert has_prefix_owner(waiting, (decoding, owner), lambda _: 0)
    assert waiting.prefix_owner is owner


@pytest.mark.parametrize(
    ("computed", "cached", "waits"), [(32, 0, True), (33, 0, False), (0, 32, True), (0, 33, False)]
)
def test_a_prefix_is_waited_for_where_enough_of_it_is_neither_computed_nor_cached(
    computed: int, cached: int, *, waits: bool
) -> None:
    common = tuple(range(32 + MIN_SHARED))
    owner = Sequence(1, (*common, *range(500, 600)), SamplingParams(max_tokens=9), 9)
    waiting = Sequence(2, (*common, *range(700, 800)), SamplingParams(max_tokens=9), 9)
    owner.num_computed_tokens = computed
    assert has_prefix_owner(waiting, (owner,), lambda _: cached) == waits


def test_nothing_is_counted_before_the_first_step() -> None:
    stats = core_of(ScriptedRunner()).stats
    assert (stats.prompt_tokens, stats.cached_tokens, stats.generated_tokens, stats.steps) == (0, 0, 0, 0)


def test_who_got_a_long_answer_waits_for_who_sent_a_longer_prompt() -> None:
    core = core_of(ScriptedRunner(cells=2000, slots=12, parallel=1, context_length=500, rule=lambda _: 1))
    for request_id, (caller, tokens, prompt) in enumerate([("a", 40, 3), ("b", 1, 20), ("a", 1, 3), ("b", 1, 3)]):
        submit(core, request_id, caller, tokens, prompt)
    ended: list[int] = []
    while core.has_work:
        ended += (output.request_id for output in core.step().outputs if output.finish_reason)
    assert ended == [0, 1, 3, 2]
