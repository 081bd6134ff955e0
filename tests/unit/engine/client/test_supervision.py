"""How often a process is started again, after which delays, and when the watchdog reports one that hangs."""

import asyncio
from dataclasses import dataclass

import pytest

from glmserve.engine.client.supervision import Restarts, Watchdog


def test_tries_are_bounded_and_their_delays_grow() -> None:
    restarts = Restarts(8)
    restarts.loaded()
    assert [restarts.next_delay() for _ in range(9)] == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, None]
    assert restarts.total == 8
    assert restarts.in_words("it died") == "it died, 9 times in a row"


def test_an_answer_begins_the_count_anew() -> None:
    restarts = Restarts(2)
    restarts.loaded()
    assert [restarts.next_delay(), restarts.next_delay()] == [0.0, 0.5]
    restarts.answered()
    assert restarts.next_delay() == 0.0


def test_a_model_that_never_loaded_is_not_tried_again_but_a_process_that_was_not_started_is() -> None:
    restarts = Restarts(2)
    assert restarts.next_delay() is None
    assert restarts.in_words("it died") == "it died"
    assert [restarts.next_delay(anyway=True) for _ in range(3)] == [0.0, 0.5, None]


def test_a_stopped_engine_begins_as_a_new_one() -> None:
    restarts = Restarts(1)
    restarts.loaded()
    assert restarts.next_delay() == 0.0
    restarts.reset()
    assert restarts.next_delay() is None
    assert restarts.next_delay(anyway=True) == 0.0


pytestmark = pytest.mark.anyio


class Watched:
    """Work that begins and ends, and how often the dog barked."""

    def __init__(self, seconds: float) -> None:
        self.has_work = True
        self.alarms = 0
        self.dog = Watchdog(seconds, lambda: self.has_work, self._alarm)

    def _alarm(self) -> None:
        self.alarms += 1


@dataclass
class Clock:
    """That of the event loop, which goes as the test says."""

    now: float = 0.0

    async def go_on(self, seconds: float) -> None:
        """Let time pass, and whatever is due happen."""
        self.now += seconds
        for _ in range(3):
            await asyncio.sleep(0)


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    loop = asyncio.get_running_loop()
    clock = Clock(loop.time())
    monkeypatch.setattr(loop, "time", lambda: clock.now)
    return clock


async def test_silence_while_there_is_work_is_told_once(clock: Clock) -> None:
    watched = Watched(2.0)
    watched.dog.start()
    await clock.go_on(1.9)
    assert watched.alarms == 0
    for alarms in (1, 2):
        await clock.go_on(0.2)
        assert watched.alarms == alarms
        await clock.go_on(20)
        assert watched.alarms == alarms
        watched.dog.start()
        await clock.go_on(1.9)
        assert watched.alarms == alarms


async def test_whoever_is_heard_of_is_left_alone_and_so_is_who_has_no_work(clock: Clock) -> None:
    watched = Watched(0.2)
    watched.dog.start()
    for _ in range(8):
        await clock.go_on(0.05)
        watched.dog.heard()
    watched.has_work = False
    await clock.go_on(0.4)
    assert watched.alarms == 0


async def test_time_without_work_does_not_count(clock: Clock) -> None:
    watched = Watched(0.3)
    watched.dog.start()
    watched.has_work = False
    await clock.go_on(0.2)
    watched.has_work = True
    watched.dog.start()
    await clock.go_on(0.2)
    assert watched.alarms == 0
    await clock.go_on(0.2)
    assert watched.alarms == 1


async def test_no_limit_is_no_watching(clock: Clock) -> None:
    watched = Watched(0.0)
    watched.dog.start()
    await clock.go_on(100)
    assert watched.alarms == 0


async def test_a_pause_of_the_whole_server_is_no_silence_of_the_engine(clock: Clock) -> None:
    """After a machine had been frozen, the engine was killed for what it could not have said."""
    watched = Watched(0.05)
    watched.dog.start()
    await clock.go_on(1.2)
    assert watched.alarms == 0
    await clock.go_on(0.1)
    assert watched.alarms == 1
