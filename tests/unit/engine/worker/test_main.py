"""The loop of the engine process, in a thread: what it does while nobody asks anything of it."""

import threading
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import pytest

from glmserve.engine.child_process import Outgoing
from glmserve.engine.messages import Shutdown, StepOutput, StepReport, Submit
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.step_budget import TokenBudgetPolicy
from glmserve.engine.worker import main as worker
from glmserve.engine.worker.core import EngineCore, EngineCorrupted
from tests.support.scripted_runner import ScriptedRunner


class Leaky(ScriptedRunner):
    """Never frees a sampler."""

    def close_sampler(self, request_id: int) -> None:
        pass


class Loop:
    """A worker's loop, and its parent's end of the pipe."""

    def __init__(self, runner: ScriptedRunner) -> None:
        self.connection, theirs = Pipe()
        self.error: BaseException | None = None
        self._core = EngineCore(runner, TokenBudgetPolicy(1.0, 64))
        self._thread = threading.Thread(target=self._run, args=(theirs,), daemon=True)
        self._thread.start()

    def _run(self, theirs: Connection) -> None:
        try:
            worker.serve(self._core, theirs, Outgoing(theirs))
        except EngineCorrupted as error:
            self.error = error

    def ask(self, request_id: int) -> None:
        self.connection.send(Submit(request_id, (5, 6, 7), SamplingParams(max_tokens=2)))

    def report(self) -> StepReport[StepOutput]:
        assert self.connection.poll(10), "it says nothing"
        report: object = self.connection.recv()
        assert isinstance(report, StepReport)
        return report

    def join(self) -> None:
        self._thread.join(10)
        assert not self._thread.is_alive()


@pytest.fixture(autouse=True)
def idle_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "IDLE_SECONDS", 0.01)


def test_books_are_checked_once_whenever_there_is_nothing_to_do() -> None:
    loop = Loop(ScriptedRunner())
    for turn in (1, 2):
        loop.ask(turn)
        while (report := loop.report()).stats is None or report.stats.checks < turn:
            pass
        assert not report.outputs
        assert not loop.connection.poll(0.1), "it checks again what has not changed"
    loop.connection.send(Shutdown())
    loop.join()
    assert loop.error is None


def test_an_engine_whose_books_are_wrong_ends() -> None:
    loop = Loop(Leaky())
    loop.ask(1)
    loop.join()
    assert "samplers" in str(loop.error)
