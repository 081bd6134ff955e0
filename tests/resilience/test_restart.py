"""A fresh engine process after one that died: who notices, how often it is tried, and with which file."""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from typing_extensions import Unpack

from glmserve.engine.client import supervision
from glmserve.engine.client.client import EngineClient
from glmserve.engine.errors import EngineDied, EngineError, EngineUnavailable
from glmserve.engine.interface import EngineState
from glmserve.engine.params import SamplingParams
from tests.support.changes import EngineChanges
from tests.support.faults import VARIABLE
from tests.support.faulty_engine import Start, faulty_engine
from tests.support.sure_prompts import SURE

PROMPT, POISON = SURE, 9
TEN = SamplingParams(max_tokens=10, ignore_eos=True, temperature=0.0)
ENDLESS = SamplingParams(max_tokens=1900, ignore_eos=True)


@pytest.fixture
def start(tiny_gguf: Path) -> Start:
    """Starts an engine on the embedded model, or another one."""

    def begin(path: Path = tiny_gguf, **changes: Unpack[EngineChanges]) -> AbstractAsyncContextManager[EngineClient]:
        merged: EngineChanges = {"max_restarts": 2, **changes}
        return faulty_engine(path, **merged)

    return begin


@pytest.fixture
def fail_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Lets the next process that starts fail as said, and none after it."""

    def plan(text: str) -> None:
        (tmp_path / "plan").write_text(text)
        monkeypatch.setenv(VARIABLE, f"once {tmp_path / 'plan'}")

    return plan


async def _answer(engine: EngineClient, prompt: tuple[int, ...] = PROMPT) -> list[int]:
    return [token for output in [o async for o in await engine.submit(prompt, TEN)] for token in output.token_ids]


def _kill(engine: EngineClient) -> None:
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGKILL)


async def _died(engine: EngineClient) -> None:
    while engine.status.state is EngineState.READY:
        await asyncio.sleep(0.01)


async def _outcome(work: Awaitable[object]) -> EngineError | None:
    try:
        await asyncio.wait_for(work, 60)
    except EngineError as error:
        return error
    return None


async def test_who_was_answered_nothing_yet_does_not_notice_and_who_was_gets_an_error(start: Start) -> None:
    async with start(parallel=1, resume=False) as engine:
        alone = await _answer(engine)
        running = await engine.submit((20, 21), ENDLESS)
        await anext(running)
        waiting = [asyncio.ensure_future(_answer(engine)) for _ in range(3)]
        await asyncio.sleep(0.05)
        _kill(engine)
        with pytest.raises(EngineDied, match="SIGKILL"):
            async for _ in running:
                pass
        assert [await answer for answer in waiting] == [alone] * 3
        assert engine.restarts_total == 1


async def test_what_kills_two_processes_gets_no_third(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, f"decode@{POISON}=abort")
    async with start() as engine:
        with pytest.raises(EngineDied, match="SIGABRT"):
            await _answer(engine, (*PROMPT, POISON))
        assert await _answer(engine)
        assert engine.restarts_total == 2


async def test_who_would_wait_for_too_long_is_told(start: Start, fail_once: Callable[[str], None]) -> None:
    async with start(restart_wait=0.3) as engine:
        fail_once("load=hang")
        lost = asyncio.ensure_future(_answer(engine))
        await asyncio.sleep(0)
        _kill(engine)
        with pytest.raises(EngineDied, match="SIGKILL"):
            await asyncio.wait_for(lost, 10)


@pytest.mark.parametrize("fault", ["garbage", "torn", "bug"])
async def test_a_process_that_talks_nonsense_is_replaced(
    start: Start, fail_once: Callable[[str], None], fault: str
) -> None:
    """Its pipe's reading thread ended with an exception, and everybody waited for ever."""
    fail_once(f"report:4={fault}")
    async with start() as engine:
        answer = await _answer(engine)
        assert engine.restarts_total == 1
        assert await _answer(engine) == answer


async def test_a_process_that_loses_its_reports_is_noticed_as_hung(
    start: Start, fail_once: Callable[[str], None]
) -> None:
    fail_once("report=drop")
    async with start(step_timeout=4.0) as engine:
        with pytest.raises(EngineDied, match="step-timeout"):
            await _answer(engine)
        assert await _answer(engine)


async def _read(stream: AsyncIterator[object]) -> None:
    async for _ in stream:
        pass


@pytest.mark.parametrize("fault", ["load=oom", "load=hang"])
async def test_a_load_that_fails_in_a_restart_is_one_failed_try(
    start: Start, fail_once: Callable[[str], None], fault: str
) -> None:
    """It was the last one: a GPU whose memory the dead process still held ended the service."""
    async with start(load_timeout=6.0, max_restarts=4) as engine:
        fail_once(fault)
        _kill(engine)
        await _died(engine)
        assert engine.status.state is EngineState.RESTARTING
        assert await _answer(engine)
        assert engine.restarts_total >= 2


async def test_loads_that_go_on_failing_are_given_up(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    async with start() as engine:
        monkeypatch.setenv(VARIABLE, "load=oom")
        kept = asyncio.ensure_future(_outcome(_answer(engine)))
        await asyncio.sleep(0)
        _kill(engine)
        while engine.status.state is not EngineState.FAILED:
            await asyncio.sleep(0.01)
        assert "not enough memory, 3 times in a row" in engine.status.reason
        assert isinstance(await kept, EngineDied)
        with pytest.raises(EngineUnavailable):
            await _answer(engine)


async def test_failures_are_no_answers_so_an_engine_that_only_fails_is_given_up(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "decode=-3")
    async with start(max_restarts=1) as engine:
        until = time.monotonic() + 60
        while engine.status.state is not EngineState.FAILED and time.monotonic() < until:
            await _outcome(_answer(engine))
        assert engine.status.state is EngineState.FAILED


@pytest.fixture
def model(tiny_gguf: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(tiny_gguf, tmp_path / "model.gguf"))


def _other_content(path: Path) -> bytes:
    content = bytearray(path.read_bytes())
    content[-100_000:] = bytes(100_000)
    return bytes(content)


async def test_another_file_in_the_place_of_the_model_is_never_served_under_its_name(start: Start, model: Path) -> None:
    """Tokenizer, prompt format and name are those of the file that the server was started with."""
    async with start(model) as engine:
        (model.parent / "new").write_bytes(_other_content(model))
        (model.parent / "new").replace(model)
        assert await _answer(engine)
        _kill(engine)
        await _died(engine)
        with pytest.raises(EngineError, match="was replaced since"):
            await _answer(engine)


async def test_the_same_content_under_a_new_date_is_the_same_model(start: Start, model: Path) -> None:
    async with start(model) as engine:
        (model.parent / "new").write_bytes(model.read_bytes())
        (model.parent / "new").replace(model)
        _kill(engine)
        await _died(engine)
        assert await _answer(engine)


async def test_a_file_that_is_overwritten_while_it_is_served_ends_the_engine(
    start: Start, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine has it mapped: it went on answering, out of a mixture of both."""
    monkeypatch.setattr(supervision, "_LOOK_SECONDS", 0.1)
    async with start(model) as engine:
        with model.open("r+b") as file:
            file.write(_other_content(model))
        await asyncio.wait_for(_died(engine), 10)
        with pytest.raises(EngineError, match="was replaced since"):
            await _answer(engine)


async def test_a_file_that_is_cut_off_while_it_is_served_costs_the_process_and_is_not_loaded_again(
    start: Start, model: Path
) -> None:
    """A page that is not there any more is a SIGBUS."""
    async with start(model) as engine:
        os.truncate(model, 4096)
        error = await _outcome(_answer(engine))
        assert isinstance(error, EngineDied), error
        with pytest.raises(EngineError, match="was replaced since"):
            await _answer(engine)


async def test_a_file_that_was_deleted_serves_on_and_cannot_be_loaded_again(start: Start, model: Path) -> None:
    async with start(model, max_restarts=1) as engine:
        model.unlink()
        assert await _answer(engine)
        _kill(engine)
        await _died(engine)
        with pytest.raises(EngineError):
            await _answer(engine)
        assert engine.status.state is EngineState.FAILED


async def test_a_model_that_is_loaded_again_and_killed_meanwhile_is_tried_again(
    start: Start, fail_once: Callable[[str], None]
) -> None:
    """As after ``idle_seconds``: it was a failed load, which all requests of the next 30 s were told of."""
    async with start() as engine:
        await engine.stop()
        fail_once("load=kill")
        await engine.start()
        await engine.wait_ready(60)
        assert await _answer(engine)
