"""An engine that is loaded by requests and unloaded when idle, with a scripted engine and a clock by hand."""

import asyncio
from collections.abc import Callable

import pytest

from glmserve.engine.errors import EngineError, EngineUnavailable, ModelLoadError
from glmserve.engine.interface import EngineState
from glmserve.model_pool.host import LoadPolicy, ModelHost
from glmserve.model_pool.lifecycle import RETRY_SECONDS
from tests.support.scripted_engine import ByteTokenizer, ScriptedEngine

pytestmark = pytest.mark.anyio


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def lazy(engine: ScriptedEngine, idle: float = 0.0, clock: Clock | None = None, timeout: float = 5.0) -> ModelHost:
    engine.state = EngineState.STOPPED
    return ModelHost(engine, ByteTokenizer, LoadPolicy(True, idle, timeout), clock or Clock())


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not come to that")


async def use(host: ModelHost) -> str:
    async with host.in_use():
        return host.status.state.value


async def test_nothing_is_loaded_before_the_first_request() -> None:
    engine = ScriptedEngine()
    host = lazy(engine)
    await host.start()
    assert (engine.starts, host.status.state) == (0, EngineState.IDLE)
    assert await use(host) == "ready"
    assert engine.starts == 1


async def test_requests_at_once_share_one_load() -> None:
    engine = ScriptedEngine(loaded=asyncio.Event())
    host = lazy(engine)
    waiting = [asyncio.create_task(use(host)) for _ in range(20)]
    await until(lambda: engine.starts > 0)
    assert not any(task.done() for task in waiting)
    assert engine.loaded is not None
    engine.loaded.set()
    assert await asyncio.gather(*waiting) == ["ready"] * 20
    assert engine.starts == 1


async def test_a_failed_load_is_reported_to_all_who_wait_and_tried_again_later() -> None:
    engine, clock = ScriptedEngine(load_error=ModelLoadError("no memory")), Clock()
    host = lazy(engine, clock=clock)
    told = await asyncio.gather(*(use(host) for _ in range(5)), return_exceptions=True)
    assert [str(error) for error in told] == ["no memory"] * 5
    with pytest.raises(ModelLoadError, match="no memory"):
        await use(host)
    assert (engine.starts, host.status.state) == (1, EngineState.FAILED)
    engine.load_error = None
    clock.now += RETRY_SECONDS
    assert await use(host) == "ready"
    assert engine.starts == 2


async def test_a_request_waits_only_so_long_and_the_load_goes_on_without_it() -> None:
    engine = ScriptedEngine(loaded=asyncio.Event())
    host = lazy(engine, timeout=0.01)
    with pytest.raises(EngineUnavailable, match=r"not loaded within 0\.01 s"):
        await use(host)
    assert engine.loaded is not None
    engine.loaded.set()
    await until(lambda: host.status.state is EngineState.READY)


async def test_it_is_unloaded_when_idle_and_loaded_again() -> None:
    engine = ScriptedEngine()
    host = ModelHost(engine, ByteTokenizer, LoadPolicy(True, 0.01, 5.0))
    engine.state = EngineState.STOPPED
    for times in (1, 2):
        assert await use(host) == "ready"
        await until(lambda: host.status.state is EngineState.IDLE and engine.state is EngineState.STOPPED)
        assert engine.starts == times
        with pytest.raises(EngineUnavailable):
            _ = host.tokenizer


async def test_it_is_not_unloaded_while_a_request_runs() -> None:
    engine = ScriptedEngine()
    host = ModelHost(engine, ByteTokenizer, LoadPolicy(False, 0.01, 5.0))
    await host.start()
    with host.keep_loaded():
        await asyncio.sleep(0.05)
        assert host.status.state is EngineState.READY
    await until(lambda: host.status.state is EngineState.IDLE)


async def test_a_request_that_comes_while_it_unloads_is_answered_after_it_was_loaded_again() -> None:
    stopping, go_on = asyncio.Event(), asyncio.Event()

    class SlowToStop(ScriptedEngine):
        async def stop(self) -> None:
            stopping.set()
            await go_on.wait()
            await super().stop()

    engine = SlowToStop()
    host = ModelHost(engine, ByteTokenizer, LoadPolicy(False, 0.01, 5.0))
    await host.start()
    await asyncio.wait_for(stopping.wait(), 2)
    late = asyncio.create_task(use(host))
    await asyncio.sleep(0.01)
    assert not late.done()
    go_on.set()
    assert await late == "ready"
    assert engine.starts == 2


async def test_a_caller_who_gives_up_takes_nobodys_model_away() -> None:
    engine = ScriptedEngine(loaded=asyncio.Event())
    host = lazy(engine)
    gone, stays = asyncio.create_task(use(host)), asyncio.create_task(use(host))
    await until(lambda: engine.starts > 0)
    gone.cancel()
    assert engine.loaded is not None
    engine.loaded.set()
    assert await stays == "ready"


async def test_an_engine_that_has_given_up_is_tried_again_later() -> None:
    engine, clock = ScriptedEngine(), Clock()
    host = lazy(engine, clock=clock)
    await use(host)
    engine.state, engine.reason = EngineState.FAILED, "it died 6 times in a row"
    with pytest.raises(EngineError, match="6 times"):
        await use(host)
    clock.now += RETRY_SECONDS
    assert await use(host) == "ready"


async def test_a_tokenizer_that_fails_ends_its_engine_too() -> None:
    def broken() -> ByteTokenizer:
        raise OSError("no such vocabulary")

    engine = ScriptedEngine()
    host = ModelHost(engine, broken, LoadPolicy(True, 0.0, 5.0))
    with pytest.raises(ModelLoadError, match="no such vocabulary"):
        await use(host)
    assert engine.state is EngineState.STOPPED


async def test_waiting_requests_get_an_error_at_shutdown_and_nothing_is_loaded() -> None:
    engine = ScriptedEngine(loaded=asyncio.Event())
    host = lazy(engine)
    waiting = asyncio.create_task(use(host))
    await until(lambda: engine.starts > 0)
    await host.stop()
    with pytest.raises(EngineUnavailable, match="shutting down"):
        await asyncio.wait_for(waiting, 2)
    with pytest.raises(EngineUnavailable, match="shutting down"):
        await use(host)
    assert (engine.starts, host.status.state) == (1, EngineState.STOPPED)


async def test_of_two_models_that_are_wanted_at_once_one_loads_after_the_other() -> None:
    turn = asyncio.Lock()
    first, second = ScriptedEngine(loaded=asyncio.Event()), ScriptedEngine()
    hosts = []
    for engine in (first, second):
        engine.state = EngineState.STOPPED
        hosts.append(ModelHost(engine, ByteTokenizer, LoadPolicy(True, 0.0, 5.0), turn=turn))
    both = [asyncio.create_task(use(host)) for host in hosts]
    await until(lambda: first.starts > 0)
    await asyncio.sleep(0.01)
    assert second.starts == 0
    assert hosts[1].status.reason == "it is waiting for another model to load"
    assert first.loaded is not None
    first.loaded.set()
    assert await asyncio.gather(*both) == ["ready", "ready"]


async def test_a_load_that_fails_gives_its_turn_away() -> None:
    turn = asyncio.Lock()
    bad, good = ScriptedEngine(load_error=ModelLoadError("no memory")), ScriptedEngine()
    for engine in (bad, good):
        engine.state = EngineState.STOPPED
    hosts = [ModelHost(engine, ByteTokenizer, LoadPolicy(True, 0.0, 5.0), turn=turn) for engine in (bad, good)]
    with pytest.raises(ModelLoadError):
        await use(hosts[0])
    assert await use(hosts[1]) == "ready"
