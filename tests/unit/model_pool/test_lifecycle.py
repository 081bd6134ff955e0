"""When a model is loaded and unloaded, at made-up times."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from glmserve.engine.errors import ModelLoadError
from glmserve.model_pool.lifecycle import RETRY_SECONDS, Lifecycle, Phase


def ready(idle_seconds: float = 10.0, now: float = 0.0) -> Lifecycle:
    life = Lifecycle(on_first_use=False, idle_seconds=idle_seconds)
    life.loaded(now)
    return life


def test_one_that_starts_with_the_server_is_not_loaded_by_a_request() -> None:
    life = Lifecycle(on_first_use=False, idle_seconds=0)
    assert life.phase is Phase.STARTING
    assert not life.wants_load(1e9)


def test_one_for_first_use_is_loaded_by_the_first_request_and_by_no_other() -> None:
    life = Lifecycle(on_first_use=True, idle_seconds=0)
    assert life.wants_load(0)
    life.loading()
    assert not life.wants_load(0)
    life.loaded(1)
    assert not life.wants_load(1)


def test_it_is_unloaded_so_long_after_its_last_request() -> None:
    life = ready(now=5)
    assert life.unload_in(6) == 9
    life.enter()
    life.leave(20)
    assert life.unload_in(21) == 9
    assert life.unload_in(35) == 0


def test_it_stays_while_any_request_runs() -> None:
    life = ready()
    life.enter()
    life.enter()
    life.leave(1)
    assert life.unload_in(1000) is None


def test_without_a_time_it_stays_for_ever() -> None:
    assert ready(idle_seconds=0).unload_in(1e9) is None


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.READY])
def test_only_what_is_ready_is_unloaded(phase: Phase) -> None:
    life = ready()
    life.phase = phase
    assert life.unload_in(1e9) is None


def test_a_request_while_it_unloads_has_it_loaded_again_after_that() -> None:
    life = ready()
    life.unloading()
    life.enter()
    assert not life.wants_load(50)
    life.unloaded()
    assert life.wants_load(51)


def test_a_failure_is_kept_and_tried_again_by_a_request_some_time_later() -> None:
    life = Lifecycle(on_first_use=True, idle_seconds=10)
    life.loading()
    life.failed(ModelLoadError("no memory"), 100)
    assert (life.phase, str(life.failure)) == (Phase.FAILED, "no memory")
    assert not life.wants_load(100 + RETRY_SECONDS - 1)
    assert life.wants_load(100 + RETRY_SECONDS)
    life.loading()
    life.loaded(200)
    assert life.failure is None


def test_requests_that_are_refused_do_not_put_the_next_try_off() -> None:
    life = Lifecycle(on_first_use=True, idle_seconds=10)
    life.failed(ModelLoadError("no memory"), 0)
    life.enter()
    life.leave(RETRY_SECONDS - 1)
    assert life.wants_load(RETRY_SECONDS)


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens in whatever order: nothing is unloaded from under a request."""

    def __init__(self) -> None:
        super().__init__()
        self.life, self.now, self.requests = Lifecycle(on_first_use=True, idle_seconds=10), 0.0, 0

    @rule(seconds=st.floats(0, 100))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        if self.life.unload_in(self.now) == 0:
            assert self.requests == 0
            self.life.unloading()

    @rule()
    def a_request_comes(self) -> None:
        self.life.enter()
        self.requests += 1
        if self.life.wants_load(self.now):
            self.life.loading()

    @precondition(lambda self: self.requests)
    @rule()
    def a_request_ends(self) -> None:
        self.life.leave(self.now)
        self.requests -= 1

    @precondition(lambda self: self.life.phase is Phase.LOADING)
    @rule(works=st.booleans())
    def loading_ends(self, works: bool) -> None:
        if works:
            self.life.loaded(self.now)
        else:
            self.life.failed(ModelLoadError("no"), self.now)

    @precondition(lambda self: self.life.phase is Phase.UNLOADING)
    @rule()
    def unloading_ends(self) -> None:
        self.life.unloaded()

    @invariant()
    def a_ready_model_that_nobody_uses_is_unloaded_in_the_end(self) -> None:
        due = self.life.unload_in(self.now)
        assert (due is not None) == (self.life.phase is Phase.READY and not self.requests)
        assert due is None or due <= 10


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
