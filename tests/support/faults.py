"""Faults on purpose, for tests of their handling: ``EngineClient(config, load=load_faulty)``.

Without a plan ``load_faulty`` is ``load_llama``. The plan stands in the environment variable FAULT_PLAN, which the
engine process reads when it starts: ``PLACE[WHEN]=WHAT``, and more of these after commas.

PLACE
    load, self_test; decode, sample, score_prompt, open_sampler, embed (calls of the model by the core); report (to the
    parent).
WHEN
    ``:3`` the third time, ``:3+`` from then on, ``@17`` where token 17 is among those given; every time without it.
    ``^standard`` in this compute mode alone.
WHAT
    a number, as what ``llama_decode`` answers; ``oom``, ``error``, ``bug`` (exceptions); ``abort``, ``kill``,
    ``segv``, ``ill``, ``stop``, ``exit`` (of the process); ``hang``, ``slow``; ``drop``, ``garbage``, ``torn`` (of a
    report).

Each process counts from its own start. Where the plan is ``once FILE``, it stands in that file, and the first process
that finds it takes it away, so that the next one works.
"""

import logging
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn, ParamSpec, TypeVar
from unittest.mock import patch

from glmserve.engine.config import ComputeMode, EngineConfig
from glmserve.engine.embedding.core import EmbeddingRunner
from glmserve.engine.errors import ModelLoadError
from glmserve.engine.messages import FromWorker, StepReport
from glmserve.engine.model_runner import DecodeError, ModelRunner
from glmserve.engine.scheduler.batch import BatchItem
from glmserve.engine.worker.entry import load_llama

VARIABLE = "FAULT_PLAN"
FAULTY_SERVER = (sys.executable, "-m", "tests.support.faulty_server")
"""Takes the place of the command `glmserve`."""
_ONCE = "once "
_SLOW_SECONDS = 0.2
_PLACES = ("decode", "sample", "score_prompt", "open_sampler", "embed")
_WHEN = r":(?P<nth>\d+)(?P<on>\+)?|@(?P<token>\d+)|\^(?P<mode>\w+)"
_FAULT = re.compile(rf"(?P<place>\w+)(?:{_WHEN})?=(?P<what>[a-z]+|-?\d+)")

_P = ParamSpec("_P")
_R = TypeVar("_R")

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Fault:
    """One thing that goes wrong at one place."""

    place: str
    what: str
    nth: int = 0
    """The first time that it does; 0 is any."""
    on: bool = True
    """And from then on."""
    token: int | None = None
    """Only for this token."""
    mode: str | None = None
    """Only in this compute mode."""
    _seen: int = field(default=0, init=False)

    def is_due(self, tokens: tuple[int, ...]) -> bool:
        """Whether it goes wrong this time. Counts."""
        self._seen += 1
        if self.token is not None:
            return self.token in tokens
        return self._seen >= self.nth if self.on else self._seen == self.nth


def load_faulty(config: EngineConfig) -> ModelRunner | EmbeddingRunner:
    """Load the real runner in an engine process, and let it fail as planned. Raises ModelLoadError."""
    plan = read_plan(config.compute_mode)
    fail(plan, "load")
    runner = load_llama(config)
    if plan:
        self_test = runner.self_test

        def failing_self_test() -> None:
            fail(plan, "self_test")
            self_test()
            install(plan, runner)
            install_in_reports(plan)

        patch.object(runner, "self_test", failing_self_test).start()
    return runner


def read_plan(mode: ComputeMode) -> tuple[Fault, ...]:
    """Return the faults of this process, which computes in ``mode``.

    Raises:
        ModelLoadError: the plan cannot be read.
    """
    text = os.environ.get(VARIABLE, "")
    if text.startswith(_ONCE):
        text = _take(Path(text.removeprefix(_ONCE)))
    if not text:
        return ()
    log.error("this engine fails on purpose (%s=%s)", VARIABLE, text)
    return tuple(fault for fault in parse(text) if fault.mode in (None, mode.value))


def parse(text: str) -> tuple[Fault, ...]:
    """Return the faults of a plan. Raises ModelLoadError."""
    faults = []
    for part in text.split(","):
        found = _FAULT.fullmatch(part.strip())
        if found is None or not _is_known(found["place"], found["what"]):
            raise ModelLoadError(f"{VARIABLE}: {part!r} is no fault: PLACE[WHEN]=WHAT, as in decode:3=abort")
        nth, token = int(found["nth"] or 0), None if found["token"] is None else int(found["token"])
        faults.append(Fault(found["place"], found["what"], nth, not nth or bool(found["on"]), token, found["mode"]))
    return tuple(faults)


def fail(plan: tuple[Fault, ...], place: str) -> None:
    """Let something go wrong at ``place``, where it is to: "load" or "self_test"."""
    _fail(plan, place, ())


def install(plan: tuple[Fault, ...], runner: ModelRunner | EmbeddingRunner) -> None:
    """Let the calls of ``runner`` fail as planned."""
    for place in _PLACES:
        faults = tuple(fault for fault in plan if fault.place == place)
        if faults and hasattr(runner, place):
            setattr(runner, place, _failing(faults, place, getattr(runner, place)))


def install_in_reports(plan: tuple[Fault, ...]) -> None:
    """Let the reports of this process, on whichever connection, fail as planned."""
    if reports := tuple(fault for fault in plan if fault.place == "report"):
        patch.object(Connection, "send", _failing_send(reports, Connection.send)).start()


def _take(file: Path) -> str:
    taken = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.rename(taken)
    except FileNotFoundError:
        return ""
    return taken.read_text("utf-8").strip()


def _is_known(place: str, what: str) -> bool:
    if what in _REPORT_FAULTS:
        return place == "report"
    return place in (*_PLACES, "load", "self_test", "report") and (what in _FAULTS or what.lstrip("-").isdigit())


def _failing(faults: tuple[Fault, ...], place: str, call: Callable[_P, _R]) -> Callable[_P, _R]:
    def failing(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        _fail(faults, place, tuple(_tokens(args)))
        return call(*args, **kwargs)

    return failing


def _tokens(given: object) -> Iterator[int]:
    """Yield the tokens among the arguments of a place: of items, of inputs, and of an item's sequence."""
    if isinstance(given, BatchItem):
        yield from given.sequence.tokens
        yield from given.ids
    elif isinstance(given, tuple | list):
        for part in given:
            yield from _tokens(part)
    elif isinstance(given, int):
        yield given


def _fail(faults: tuple[Fault, ...], place: str, tokens: tuple[int, ...]) -> None:
    for fault in faults:
        if fault.place == place and fault.is_due(tokens):
            if fault.what not in _FAULTS:
                raise DecodeError(f"llama_decode answered {fault.what}", fatal=int(fault.what) < -1)
            _FAULTS[fault.what]()


def _failing_send(
    faults: tuple[Fault, ...], send: Callable[[Connection, FromWorker], None]
) -> Callable[[Connection, FromWorker], None]:
    def failing(connection: Connection, message: FromWorker) -> None:
        due = [fault for fault in faults if isinstance(message, StepReport) and fault.is_due(())]
        for fault in due:
            if fault.what not in _REPORT_FAULTS:
                _FAULTS[fault.what]()
        if due and due[0].what in _REPORT_FAULTS:
            _REPORT_FAULTS[due[0].what](connection)
        else:
            send(connection, message)

    return failing


def _oom() -> NoReturn:
    raise MemoryError("on purpose")


def _error() -> NoReturn:
    raise RuntimeError("on purpose")


def _bug() -> NoReturn:
    raise AssertionError("on purpose")


def _send_torn(connection: Connection) -> None:
    """The length of a message and some bytes of it, then nothing."""
    os.write(connection.fileno(), (1000).to_bytes(4, "big") + bytes(10))
    os._exit(3)


_FAULTS: Mapping[str, Callable[[], object]] = MappingProxyType(
    {
        "oom": _oom,
        "error": _error,
        "bug": _bug,
        "abort": os.abort,
        "segv": lambda: os.kill(os.getpid(), signal.SIGSEGV),
        "ill": lambda: os.kill(os.getpid(), signal.SIGILL),
        "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
        "exit": lambda: os._exit(3),
        "hang": lambda: time.sleep(3600),
        "slow": lambda: time.sleep(_SLOW_SECONDS),
    }
)

_REPORT_FAULTS: Mapping[str, Callable[[Connection], None]] = MappingProxyType(
    {
        "drop": lambda _: None,
        "garbage": lambda connection: connection.send_bytes(b"this is no message"),
        "torn": _send_torn,
    }
)
