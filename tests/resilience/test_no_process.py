"""The system gives no process, file or thread: a try like any other, which is logged, repeated and given up."""

import asyncio
import errno
import logging
import os
import resource
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from multiprocessing.context import SpawnProcess
from pathlib import Path

import httpx
import pytest
from typing_extensions import Unpack

from glmserve.engine import child_process
from glmserve.engine.child_process import start_shielded
from glmserve.engine.client import grammar_validator as grammar_check
from glmserve.engine.client import process
from glmserve.engine.client.client import EngineClient
from glmserve.engine.config import Device, EngineConfig
from glmserve.engine.errors import EngineUnavailable, ModelLoadError
from glmserve.engine.interface import EngineState
from glmserve.engine.params import Grammar, GrammarKind, SamplingParams
from tests.conftest import running_server
from tests.support.changes import EngineChanges
from tests.support.processes import engine_pid

PROMPT = (5, 6, 7, 8)
THREE = SamplingParams(max_tokens=3, ignore_eos=True)

NoMore = Callable[[Exception, int], None]


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> NoMore:
    """Let the next processes fail to start with an error, so many times."""

    def refuse(error: Exception, times: int) -> None:
        left = [error] * times

        def start(child: SpawnProcess) -> None:
            if left:
                raise left.pop()
            start_shielded(child)

        for module in (process, child_process):
            monkeypatch.setattr(module, "start_shielded", start)

    return refuse


@asynccontextmanager
async def _engine(path: Path, **changes: Unpack[EngineChanges]) -> AsyncIterator[EngineClient]:
    usual = EngineConfig(path, context_length=2048, device=Device.CPU, max_restarts=2)
    engine = EngineClient(replace(usual, **changes))
    try:
        yield engine
    finally:
        await engine.stop()


async def _answer(engine: EngineClient) -> int:
    return sum([len(output.token_ids) async for output in await engine.submit(PROMPT, THREE)])


_ERRORS = [
    BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    OSError(errno.EMFILE, "Too many open files"),
    FileNotFoundError(errno.ENOENT, "No such file or directory"),
    RuntimeError("can't start new thread"),
    MemoryError(),
    TypeError("nobody expected this"),
]


_QUICK = (BlockingIOError, RuntimeError, TypeError)
"""One of the system, one of Python, one that nobody expected."""


@pytest.mark.parametrize(
    "error",
    [pytest.param(error, marks=() if isinstance(error, _QUICK) else pytest.mark.slow) for error in _ERRORS],
    ids=lambda error: type(error).__name__,
)
async def test_a_first_start_that_fails_is_tried_again(
    tiny_gguf: Path, refuse: NoMore, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """The model was "loading" for ever, without a line in the log."""
    refuse(error, 2)
    async with _engine(tiny_gguf) as engine:
        await engine.start()
        await engine.wait_ready(60)
        assert await _answer(engine) == 3
    assert caplog.text.count(f"could not be started: {error}") == 2


async def test_a_start_that_goes_on_failing_is_given_up_and_works_once_the_cause_is_gone(
    tiny_gguf: Path, refuse: NoMore
) -> None:
    refuse(_ERRORS[0], 3)
    async with _engine(tiny_gguf) as engine:
        await engine.start()
        with pytest.raises(ModelLoadError, match=r"could not be started: .*unavailable, 3 times in a row"):
            await engine.wait_ready(60)
        assert engine.status.state is EngineState.FAILED
        await engine.stop()
        await engine.start()
        await engine.wait_ready(60)
        assert await _answer(engine) == 3


async def test_a_restart_that_cannot_be_started_is_one_failed_try(tiny_gguf: Path, refuse: NoMore) -> None:
    async with _engine(tiny_gguf) as engine:
        await engine.start()
        await engine.wait_ready(60)
        refuse(_ERRORS[1], 1)
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGKILL)
        while engine.restarts_total < 2:
            await asyncio.sleep(0.01)
        assert await _answer(engine) == 3


async def test_an_engine_that_cannot_be_started_can_be_stopped(tiny_gguf: Path, refuse: NoMore) -> None:
    """Stopping it was an AssertionError, as a process that was never started cannot be waited for."""
    refuse(_ERRORS[0], 100)
    async with _engine(tiny_gguf, max_restarts=100) as engine:
        await engine.start()
        before = engine.status.state
        assert before is EngineState.RESTARTING
        await engine.stop()
        await asyncio.sleep(0.1)
        assert engine.status.state is EngineState.STOPPED


async def test_a_process_without_its_threads_is_ended(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[process.WorkerProcess] = []

    class NoSecondThread(threading.Thread):
        def start(self) -> None:
            if self.name.endswith("_write"):
                raise RuntimeError("can't start new thread")
            super().start()

    def keep(self: process.WorkerProcess, **_: object) -> None:
        started.append(self)
        stop(self, loaded=False)

    stop = process.WorkerProcess.stop
    with monkeypatch.context() as patched:
        patched.setattr(threading, "Thread", NoSecondThread)
        patched.setattr(process.WorkerProcess, "stop", keep)
        async with _engine(tiny_gguf, max_restarts=0) as engine:
            await engine.start()
            assert engine.status.state is EngineState.FAILED
            assert "can't start new thread" in engine.status.reason
    assert [worker.pid is not None and not Path(f"/proc/{worker.pid}").exists() for worker in started] == [True]


async def test_a_grammar_that_cannot_be_checked_is_a_503_and_the_next_one_is_checked(
    tiny_gguf: Path, refuse: NoMore, caplog: pytest.LogCaptureFixture
) -> None:
    """After the first failure each grammar was an AssertionError."""
    params = SamplingParams(max_tokens=3, grammar=Grammar(GrammarKind.REGEX, "ab"))
    async with _engine(tiny_gguf) as engine:
        await engine.start()
        await engine.wait_ready(60)
        refuse(_ERRORS[2], 2)
        for _ in range(2):
            with pytest.raises(EngineUnavailable, match="Too many open files"):
                await engine.submit(PROMPT, params)
        assert "the grammar validator process could not be started" in caplog.text
        assert [output async for output in await engine.submit(PROMPT, params)]


async def test_grammars_that_wait_without_a_thread_to_check_them_are_503s(
    tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(_: object) -> None:
        raise RuntimeError("can't start new thread")

    grammars = [Grammar(GrammarKind.REGEX, f"ab{{{count}}}") for count in range(1, 4)]
    checker = grammar_check.GrammarValidator(tiny_gguf)
    with monkeypatch.context() as patched:
        patched.setattr(ThreadPoolExecutor, "_adjust_thread_count", no_thread)
        refused = await asyncio.gather(*(checker.rejection(g, "somebody") for g in grammars), return_exceptions=True)
        assert [type(error) for error in refused] == [EngineUnavailable] * 3
    assert await checker.rejection(grammars[0], "somebody") == ""
    checker.close()


async def test_a_removed_working_directory_costs_nothing(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path / "folder")
    (tmp_path / "folder").rmdir()
    caplog.set_level(logging.WARNING)
    async with _engine(tiny_gguf) as engine:
        await engine.start()
        await engine.wait_ready(60)
        assert await _answer(engine) == 3
    assert "the working directory was removed" in caplog.text


_FLAGS = ("--max-restarts", "20", "--restart-wait", "30")


def _limit_files(pid: int, soft: int | None = None) -> None:
    """Let no more files be open at once than are now: what the engine had is too little to start another one."""
    soft = soft or max(int(file.name) for file in Path(f"/proc/{pid}/fd").iterdir()) + 1
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]))


def test_over_http_a_server_without_files_tries_again_until_it_has_some(tiny_gguf: Path, tmp_path: Path) -> None:
    with (
        running_server(str(tiny_gguf), *_FLAGS, log=tmp_path / "log") as (url, server),
        httpx.Client(base_url=url) as caller,
    ):
        assert caller.get("/health").status_code == 200
        _limit_files(server.pid)
        os.kill(engine_pid(server.pid), signal.SIGKILL)
        _wait_for("could not be started: [Errno 24]", tmp_path / "log")
        health = caller.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "restarting")
        _limit_files(server.pid, 1024)
        ask = {"messages": [{"role": "user", "content": "你好"}], "max_tokens": 5}
        assert caller.post("/v1/chat/completions", json=ask, timeout=30).status_code == 200


def test_over_http_a_server_that_cannot_start_its_engine_ends_when_it_is_told_to(
    tiny_gguf: Path, tmp_path: Path
) -> None:
    with running_server(str(tiny_gguf), *_FLAGS, log=tmp_path / "log") as (_, server):
        _limit_files(server.pid)
        os.kill(engine_pid(server.pid), signal.SIGKILL)
        _wait_for("could not be started: [Errno 24]", tmp_path / "log")
        server.terminate()
        assert server.wait(20) == 0
    assert "Traceback" not in (tmp_path / "log").read_text("utf-8")


def _wait_for(text: str, log: Path) -> None:
    until = time.monotonic() + 60
    while text not in log.read_text("utf-8"):
        assert time.monotonic() < until, log.read_text("utf-8")
        time.sleep(0.05)
