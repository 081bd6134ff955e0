"""Whether a grammar can be used, found out in a process that may hang or die over it.

llguidance bounds most of its work but not all: some schemas keep it busy for minutes, some grammars overflow its
stack. The engine only ever sees what was compiled here, within bounds of time and memory.
"""

import atexit
import logging
import multiprocessing
import random
import signal
import sys
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING

from server.engine.errors import EngineUnavailable
from server.engine.grammar import Grammar
from server.engine.spawning import end_with_parent, start_shielded

if TYPE_CHECKING:
    from server.engine.grammars.constraint import ConstraintFactory

CPU_SECONDS = 2.0
"""That a grammar may take, compiled and followed for a few tokens."""

_TRIES = 2
_WALL_SECONDS = 30.0
_END_SECONDS = 1.0
"""For a process that has closed its pipe to be gone, so that the way it ended can be told."""
_MEMORY_BYTES = 6 << 30
_STACK_BYTES = 2 << 20
"""A quarter of what the engine's threads have, as deep grammars make llguidance use it up."""

_REMEMBERED = 512
_WALKS = 3
_WALK_TOKENS = 12

log = logging.getLogger(__name__)


class GrammarChecker:
    """The parent's side; the process starts with the first grammar. ``verdict`` blocks, so that it has a thread."""

    def __init__(self, model_path: Path) -> None:
        """``model_path`` is a GGUF that the engine has loaded."""
        self._path = model_path
        self._verdicts: OrderedDict[Grammar, str] = OrderedDict()
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None
        self.thread = ThreadPoolExecutor(1, "grammar-check")
        """Where ``verdict`` is to be called."""

    def remembered(self, grammar: Grammar) -> str | None:
        """Return the verdict on a grammar that was seen lately."""
        return self._verdicts.get(grammar)

    def verdict(self, grammar: Grammar) -> str:
        """Return why ``grammar`` cannot be used, or nothing if it can.

        Raises:
            EngineUnavailable: that could not be found out.
        """
        known = self._verdicts.get(grammar)
        if known is None:
            known = self._verdicts[grammar] = self._ask(grammar)
        self._verdicts.move_to_end(grammar)
        while len(self._verdicts) > _REMEMBERED:
            self._verdicts.popitem(last=False)
        return known

    def close(self) -> None:
        """End the process."""
        self.thread.shutdown(wait=False, cancel_futures=True)
        self._end()

    def _ask(self, grammar: Grammar) -> str:
        """Have ``grammar`` looked at. Raises EngineUnavailable where that cannot be done."""
        for _ in range(_TRIES):
            connection = self._connected()
            try:
                connection.send(grammar)
                if connection.poll(_WALL_SECONDS):
                    return str(connection.recv())
            except (EOFError, OSError):
                if self._end(_END_SECONDS) == -signal.SIGKILL:
                    continue  # by somebody else, for want of memory say: perhaps not over this grammar
                break
            self._end()
            raise EngineUnavailable(f"the answer's grammar was not checked within {_WALL_SECONDS:g} s; try again")
        log.info("a grammar of %d characters was too much for the process that checks them", len(grammar.source))
        return f"it takes more than {CPU_SECONDS:g} s, or too much memory, to work out what it allows; make it simpler"

    def _connected(self) -> Connection:
        """Return the pipe to a process that works. Raises EngineUnavailable where none can be started."""
        if self._process is not None and not self._process.is_alive():
            self._end()  # while it had nothing to do
        if self._connection is None:
            context = multiprocessing.get_context("spawn")
            self._connection, theirs = context.Pipe()
            self._process = context.Process(
                target=_run, args=(theirs, self._path), name="glmserve-grammars", daemon=True
            )
            start_shielded(self._process)
            atexit.register(self._process.kill)  # multiprocessing would send a SIGTERM at exit, and wait
            theirs.close()
            self._wait_until_it_works(self._connection)
        return self._connection

    def _wait_until_it_works(self, connection: Connection) -> None:
        try:
            if connection.poll(_WALL_SECONDS):
                connection.recv()
                return
        except (EOFError, OSError):
            pass
        self._end()
        raise EngineUnavailable("the process that checks grammars could not be started; the log says why")

    def _end(self, patience: float = 0.0) -> int | None:
        """End the process, or let it end by itself within ``patience`` seconds; return its exit code."""
        process, connection, self._process, self._connection = self._process, self._connection, None, None
        if connection is not None:
            connection.close()
        if process is None:
            return None
        process.join(patience)
        atexit.unregister(process.kill)
        process.kill()
        process.join()
        return process.exitcode


def _run(connection: Connection, path: Path) -> None:
    """Entry point of the process: read grammars, answer with what is wrong with them."""
    from server.engine.grammars.constraint import ConstraintFactory  # noqa: PLC0415
    from server.engine.native.native_log import route_log  # noqa: PLC0415
    from server.engine.native.vocabulary import load_vocabulary, stop_ids  # noqa: PLC0415

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    logging.getLogger().addHandler(logging.NullHandler())  # what llama.cpp says, it has said in the engine too
    end_with_parent()
    route_log()
    _, vocab = load_vocabulary(path)
    factory = ConstraintFactory(vocab, stop_ids(vocab))
    factory.warm_up()
    connection.send("")
    _limit_memory()
    threading.stack_size(_STACK_BYTES)
    thread = threading.Thread(target=_answer, args=(connection, factory))
    thread.start()
    thread.join()


def _limit_memory() -> None:
    if sys.platform != "win32":
        import resource  # noqa: PLC0415

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_time(seconds: float) -> None:
    """Let the process end after so much processor time from now: a busy machine refuses no more than an idle one."""
    if sys.platform != "win32":
        signal.setitimer(signal.ITIMER_PROF, seconds)


def _answer(connection: Connection, factory: "ConstraintFactory") -> None:
    from server.engine.grammars.constraint import walk  # noqa: PLC0415
    from server.engine.grammars.grammar_source import GrammarError  # noqa: PLC0415

    while True:
        try:
            grammar = connection.recv()
        except EOFError:
            return
        _limit_time(CPU_SECONDS)
        try:
            constraint = factory.make(grammar)
            numbers = random.Random(0)
            for _ in range(_WALKS):
                walk(constraint.copy(), [numbers.random() for _ in range(_WALK_TOKENS)])
            verdict = ""
        except GrammarError as error:
            verdict = str(error)
        _limit_time(0)
        connection.send(verdict)
