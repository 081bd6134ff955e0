"""The process that checks grammars. Each check runs in a forked child with limits on time, memory and stack.

llguidance bounds most of its work but not all: some schemas keep it busy for minutes, some grammars overflow its
stack. A child that dies costs nothing, because the vocabulary stays loaded in the process that forked it.
"""

import logging
import os
import pickle
import random
import select
import signal
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from glmserve.engine.child_process import ENDING_SIGNALS, HelperProcess, end_with_parent, start_helper
from glmserve.engine.errors import EngineUnavailable
from glmserve.engine.params import Grammar

if TYPE_CHECKING:
    from glmserve.engine.grammar_backend import ConstraintFactory

CPU_SECONDS = 1.0
"""Limit of processor time for one check."""

_WALL_SECONDS = 20.0
"""Limit of wall time for one check. A busy machine needs more of it than of processor time."""
_MEMORY_BYTES = 2 << 30
"""Address space that a check may use in addition to the process's own."""
_LEAST_MEMORY_BYTES = 512 << 20
"""With less room than this, a check may run out of memory through no fault of the grammar."""
_STACK_BYTES = 2 << 20
"""A quarter of the stack of the engine's threads, as deep grammars make llguidance use it up."""
_WALKS = (12, 12, 100)
"""Tokens of each random walk: the short ones vary the beginning, the long one shows whether the cost grows."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Result of a check."""

    rejection: str = ""
    """Why the grammar cannot be used; empty if it can."""
    too_much: bool = False
    """The rejection is about cost: the check hit a limit of time, memory or stack."""
    failure: str = ""
    """Why the check itself failed; this is no verdict on the grammar."""


def run_grammar_process(connection: Connection, path: Path, end_tokens: tuple[str, ...]) -> None:
    """Entry point of the process: receive grammars, answer with verdicts; see EngineConfig for ``end_tokens``."""
    from glmserve.engine.grammar_backend import ConstraintFactory  # noqa: PLC0415
    from glmserve.engine.llama.model_loading import (  # noqa: PLC0415
        load_vocabulary,
        route_log,
        stop_ids,
    )

    for number in ENDING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    logging.getLogger().addHandler(logging.NullHandler())  # what llama.cpp says, it has said in the engine too
    end_with_parent()
    route_log()
    _, vocab = load_vocabulary(path)
    factory = ConstraintFactory(vocab, stop_ids(vocab, end_tokens))
    factory.warm_up()
    check = _check_in_child if hasattr(os, "fork") else _check
    connection.send(None)
    with suppress(EOFError):
        while True:
            connection.send(check(factory, connection.recv()))


def _check(factory: "ConstraintFactory", grammar: Grammar) -> Verdict:
    """Compile ``grammar`` and follow it for some tokens."""
    from glmserve.engine.grammar_backend import (  # noqa: PLC0415
        GrammarError,
        MaskTooSlow,
        walk,
    )

    try:
        constraint = factory.make(grammar)
        numbers = random.Random(0)
        for tokens in _WALKS:
            walk(constraint.copy(), [numbers.random() for _ in range(tokens)])
    except GrammarError as error:
        return Verdict(str(error), too_much=isinstance(error, MaskTooSlow))
    return Verdict()


def _check_in_child(factory: "ConstraintFactory", grammar: Grammar) -> Verdict:
    used = _address_space()
    read_end, write_end = os.pipe()
    try:
        pid = os.fork()
    except OSError as error:
        os.close(read_end)
        os.close(write_end)
        return Verdict(failure=f"no process can be started: {error.strerror}")
    if not pid:
        _in_child(factory, grammar, used, write_end)
    os.close(write_end)
    data = _read_to_end(read_end, _WALL_SECONDS)
    os.close(read_end)
    if data is None:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if data:
        verdict = pickle.loads(data)
        assert isinstance(verdict, Verdict)
        return verdict
    return _of_death(os.waitstatus_to_exitcode(status), _memory_limit(used) - used, timed_out=data is None)


def _of_death(exit_code: int, room: int, *, timed_out: bool) -> Verdict:
    """Return the verdict for a child that ended without a report. ``room`` is its memory limit in bytes."""
    if timed_out:
        return Verdict(failure=f"it was not checked within {_WALL_SECONDS:g} s")
    if exit_code == -signal.SIGPROF:
        return Verdict(f"it needs more than {CPU_SECONDS:g} s of CPU time; make it simpler", too_much=True)
    if exit_code == -signal.SIGKILL:
        return Verdict(failure="its process was killed")
    if room < _LEAST_MEMORY_BYTES:
        return Verdict(failure=f"the limit of the server's address space (ulimit -v) leaves {room >> 20} MiB for it")
    return Verdict("it needs too much memory; make it simpler", too_much=True)


def _in_child(factory: "ConstraintFactory", grammar: Grammar, used: int, write_end: int) -> None:
    """Check ``grammar`` under limits, report, and end the process."""
    try:
        _be_first_to_go()
        _limit_memory(_memory_limit(used))
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        threading.stack_size(_STACK_BYTES)
        thread = threading.Thread(target=lambda: _report(write_end, _check(factory, grammar)))
        try:
            thread.start()
        except RuntimeError as error:
            _report(write_end, Verdict(failure=str(error)))
        else:
            thread.join()
    finally:
        os._exit(1)


def _report(write_end: int, verdict: Verdict) -> None:
    os.write(write_end, pickle.dumps(verdict))
    os._exit(0)


def _read_to_end(descriptor: int, seconds: float) -> bytes | None:
    """Return the bytes up to the end of the pipe, or None if that takes more than ``seconds``."""
    deadline = time.monotonic() + seconds
    data = b""
    while select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
        piece = os.read(descriptor, 65536)
        if not piece:
            return data
        data += piece
    return None


def _address_space() -> int:
    """Return the size of this process's address space in bytes; 0 where the system does not tell."""
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
    return 0


def _memory_limit(used: int) -> int:
    """Return the limit of address space for a check: ours, or the one that the process has where that is lower."""
    import resource  # noqa: PLC0415

    limits = [limit for limit in resource.getrlimit(resource.RLIMIT_AS) if limit != resource.RLIM_INFINITY]
    return min([used + _MEMORY_BYTES, *limits])


def _limit_memory(limit: int) -> None:
    import resource  # noqa: PLC0415

    for kind, wanted in ((resource.RLIMIT_AS, limit), (resource.RLIMIT_CORE, 0)):
        with suppress(ValueError, OSError):
            resource.setrlimit(kind, (wanted, resource.getrlimit(kind)[1]))


def _be_first_to_go() -> None:
    """Have Linux end this process, and not the engine, where memory runs out."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


log = logging.getLogger(__name__)

_TRIES = 2
_ANSWER_SECONDS = 30.0


class GrammarProcess:
    """Blocks, so it is called in a thread: one at a time."""

    def __init__(self, model_path: Path, end_tokens: tuple[str, ...] = ()) -> None:
        """``model_path`` is a GGUF that the engine has loaded, with these ``end_tokens``."""
        self._path, self._end_tokens = model_path, end_tokens
        self._helper: HelperProcess | None = None
        self._ended = False

    def check(self, grammar: Grammar) -> Verdict:
        """Return the verdict on ``grammar``.

        Raises:
            EngineUnavailable: that could not be found out.
        """
        problem = ""
        for _ in range(_TRIES):
            connection = self._connected()
            try:
                connection.send(grammar)
                if not connection.poll(_ANSWER_SECONDS):
                    self.close()
                    problem = f"no answer within {_ANSWER_SECONDS:g} s"
                    break
                verdict = connection.recv()
            except (EOFError, OSError):
                self.close()
                problem = "its process died"
                continue
            assert isinstance(verdict, Verdict), verdict
            if not verdict.failure:
                return verdict
            problem = verdict.failure
        raise EngineUnavailable(f"the grammar of the answer could not be checked: {problem}; try again")

    def end(self) -> None:
        """Kill the process, from another thread say: a check that runs fails at once, and none begins any more."""
        self._ended = True
        if (helper := self._helper) is not None:
            helper.process.kill()

    def close(self) -> None:
        """Kill the process and free its resources."""
        helper, self._helper = self._helper, None
        if helper is not None:
            helper.close()

    def _connected(self) -> Connection:
        """Return the pipe to a process that works. Raises EngineUnavailable where none can be started."""
        if self._ended:
            raise EngineUnavailable("the grammar validator process was killed")
        if self._helper is not None and not self._helper.process.is_alive():
            self.close()  # it died while it had nothing to do
        if self._helper is None:
            try:
                self._helper = start_helper(run_grammar_process, self._path, self._end_tokens, name="glmserve-grammars")
                self._wait_until_it_works(self._helper.connection)
            except (EOFError, OSError, RuntimeError, MemoryError) as error:
                self.close()
                problem = f"the grammar validator process could not be started: {str(error) or 'it ended'}"
                log.error("%s", problem)
                raise EngineUnavailable(problem) from None
        return self._helper.connection

    def _wait_until_it_works(self, connection: Connection) -> None:
        if not connection.poll(_ANSWER_SECONDS):
            raise EOFError
        connection.recv()
