"""Pinned prefixes on a scripted runner: always in the cache, never in anybody's way, right after a restart."""

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glmserve.engine.kv_cache.prefix_keys import PLAIN, LoadedAdapter
from glmserve.engine.kv_cache.state_store import Fingerprint
from glmserve.engine.messages import Pin, StepOutput, Submit
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.step_budget import TokenBudgetPolicy
from glmserve.engine.worker.core import EngineCore
from tests.support.scripted_runner import ScriptedRunner, lone_run
from tests.support.stepping import drain, tokens_of

PREFIX = tuple(1 + i % 40 for i in range(60))
ADAPTERS = {"lora": LoadedAdapter(1, has_lora=True), "prefix": LoadedAdapter(2, prefix_length=20)}


class _Memory:
    """States in a dictionary."""

    def __init__(self) -> None:
        self.states: dict[Fingerprint, bytes] = {}

    def load(self, key: Fingerprint) -> bytearray | None:
        return bytearray(self.states[key]) if key in self.states else None

    def save(self, key: Fingerprint, state: bytearray) -> None:
        self.states[key] = bytes(state)


def _core(
    states: _Memory | None = None, cells: int = 400, parallel: int = 4, budget: int = 16, context: int = 100
) -> tuple[EngineCore, ScriptedRunner]:
    runner = ScriptedRunner(cells, parallel + 6, parallel, context)
    runner.adapters = ADAPTERS
    return EngineCore(runner, TokenBudgetPolicy(1e9, budget), clock=lambda: 0.0, states=states), runner


def _submit(core: EngineCore, request_id: int, prompt: tuple[int, ...], max_tokens: int, adapter: str = "") -> None:
    assert core.submit(Submit(request_id, prompt, SamplingParams(max_tokens=max_tokens), adapter)) is None


@pytest.mark.parametrize("adapter", ["", "lora", "prefix"])
def test_a_pinned_prefix_is_found_by_the_first_request_before_and_after_a_restart(adapter: str) -> None:
    states, answers = _Memory(), []
    for restored in (0, 1):
        core, runner = _core(states)
        core.pin(Pin(PREFIX, adapter))
        drain(core)
        computed = runner.computed
        _submit(core, 0, (*PREFIX, 7, 7), 5, adapter)
        outputs = drain(core)[0]
        answers.append(tokens_of(outputs))
        assert outputs[0].cached_tokens == len(PREFIX)
        assert (core.stats.pins_restored, core.stats.pins_computed) == (restored, 1 - restored)
        assert computed == (0 if restored else len(PREFIX))
    assert answers[0] == answers[1]


def test_a_state_that_the_backend_does_not_take_is_computed_again() -> None:
    states = _Memory()
    for takes in (True, False, True):
        core, runner = _core(states)
        runner.takes_states = takes
        core.pin(Pin(PREFIX))
        drain(core)
        _submit(core, 0, (*PREFIX, 7), 3)
        outputs = drain(core)[0]
        assert (outputs[0].cached_tokens, tokens_of(outputs)) == (len(PREFIX), lone_run((*PREFIX, 7), 3))


def test_a_prefix_that_is_wanted_only_where_it_is_saved_is_restored_and_never_computed() -> None:
    states = _Memory()
    core, runner = _core(states)
    assert not core.pin(Pin(PREFIX, if_saved=True))
    assert not core.has_work
    assert core.pin(Pin(PREFIX))  # its first use
    drain(core)
    again, runner = _core(states)
    assert again.pin(Pin(PREFIX, if_saved=True))
    assert again.pin(Pin(PREFIX))
    drain(again)
    assert (again.stats.pins_restored, again.stats.pins_computed, runner.computed) == (1, 0, 0)
    assert again.stats.cells_held == 20 + len(PREFIX)


def test_a_pinned_prefix_outlives_any_number_of_requests_that_fill_the_cache() -> None:
    core, _ = _core(cells=190)
    core.pin(Pin(PREFIX))
    for request_id in range(20):
        _submit(core, request_id, tuple(1 + (request_id + i) % 40 for i in range(70)), 5)
    drain(core)
    _submit(core, 20, (*PREFIX, 49), 1)
    assert drain(core)[20][0].cached_tokens == len(PREFIX)


def test_a_prefix_that_would_leave_no_room_for_the_longest_request_is_not_pinned() -> None:
    core, _ = _core(cells=20 + 100 + 59)
    core.pin(Pin(PREFIX))
    assert not core.has_work
    core.pin(Pin(PREFIX[:-1]))
    core.pin(Pin((5, 5)))  # the room is given away by then
    drain(core)
    assert core.stats.pins_computed == 1
    assert core.stats.cells_held == 20 + 59
    _submit(core, 0, (9,) * 50, 50)
    assert tokens_of(drain(core)[0]) == lone_run((9,) * 50, 50)


def test_a_prefix_that_fills_the_context_is_not_pinned() -> None:
    core, _ = _core()
    assert core.pin(Pin((5,) * 99))
    assert not core.pin(Pin((6,) * 100))


def test_a_prefix_is_not_computed_while_somebody_else_is_answered() -> None:
    core, runner = _core(parallel=1)
    core.pin(Pin(PREFIX))
    _submit(core, 0, (4, 5), 10)
    while not any(output.finish_reason for output in core.step().outputs):
        assert runner.batches[-1] <= 2
    drain(core)
    assert core.stats.pins_computed == 1


def test_a_request_that_starts_with_a_prefix_in_the_making_has_it_computed_at_once_and_only_once() -> None:
    core, runner = _core(budget=8)
    core.pin(Pin(PREFIX))
    core.step()
    for request_id in range(3):
        _submit(core, request_id, (*PREFIX, 41 + request_id), 2)
    outputs = drain(core)
    assert all(outputs[i][0].cached_tokens == len(PREFIX) for i in range(3))
    assert runner.computed <= len(PREFIX) + 3 * 2


def test_a_step_without_a_request_stays_short() -> None:
    """A request that comes has to wait for the step that is under way."""
    runner = ScriptedRunner(cells=2000, context_length=1000)
    core = EngineCore(runner, TokenBudgetPolicy(0.25, 512), clock=lambda: 0.0)
    core.pin(Pin(tuple(1 + i % 40 for i in range(500))))
    core.step()
    assert runner.batches == [16]


def test_the_same_prefix_is_pinned_once() -> None:
    core, _ = _core()
    for _ in range(3):
        core.pin(Pin(PREFIX))
        drain(core)
    assert core.stats.cells_held == 20 + len(PREFIX)


def test_a_prefix_that_cannot_be_computed_is_given_up_and_may_be_pinned_again() -> None:
    core, runner = _core()
    runner.poison = PREFIX[-1]
    core.pin(Pin(PREFIX))
    drain(core)
    assert core.stats.cells_held == 20
    runner.poison = None
    core.pin(Pin(PREFIX))
    drain(core)
    assert core.stats.pins_computed == 1


_TOKENS = st.lists(st.integers(1, 2), min_size=1, max_size=25).map(tuple)
_NAMES = st.sampled_from(["", "lora", "prefix"])


@settings(max_examples=60, deadline=None)
@given(
    work=st.lists(st.tuples(st.booleans(), _NAMES, _TOKENS, st.integers(1, 15), st.integers(0, 3)), max_size=14),
    cells=st.integers(130, 300),
    budget=st.integers(1, 30),
    kept=st.booleans(),
)
def test_pins_and_requests_in_any_order_end_with_right_answers_and_every_pin_in_the_cache(
    work: list[tuple[bool, str, tuple[int, ...], int, int]], cells: int, budget: int, kept: bool
) -> None:
    states = _Memory() if kept else None
    for _ in range(2):  # the second time from what was saved
        core, runner = _core(states, cells=cells, budget=budget)
        outputs: dict[int, list[StepOutput]] = defaultdict(list)
        pinned: list[tuple[int, ...]] = []
        for request_id, (is_pin, adapter, tokens, max_tokens, steps) in enumerate(work):
            if is_pin:
                if core.pin(Pin(tokens, adapter)):
                    pinned.append(ADAPTERS.get(adapter, PLAIN).key(tokens))
            else:
                _submit(core, request_id, tokens, max_tokens, adapter)
            for _ in range(steps):
                for output in core.step().outputs:
                    outputs[output.request_id].append(output)
                core.check_integrity()
        for request_id, more in drain(core).items():
            outputs[request_id] += more
        assert not runner.samplers
        lanes = [[cell[0] for cell in lane] for lane in runner.lanes.values()]
        assert all(list(key) in lanes for key in pinned)
        for request_id, (is_pin, adapter, tokens, max_tokens, _steps) in enumerate(work):
            if not is_pin:
                assert tokens_of(outputs[request_id]) == _expected(ADAPTERS.get(adapter, PLAIN), tokens, max_tokens)


def _expected(adapter: LoadedAdapter, prompt: tuple[int, ...], max_tokens: int) -> list[int]:
    tokens = list(adapter.key(prompt))
    answer: list[int] = []
    while len(answer) < max_tokens and (not answer or answer[-1]):
        answer.append(lone_run(tuple(tokens), 1)[0])
        tokens.append(answer[-1] + adapter.salt)
    return answer
