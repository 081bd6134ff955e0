"""Child processes: how they start and end with their parent, and the pipe of their log records."""

import atexit
import contextlib
import logging
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from glmserve.engine.messages import FromWorker, Logged

log = logging.getLogger(__name__)

ENDING_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""A terminal or systemd sends these to all processes of a service. The parent alone decides what they mean."""


def start_shielded(process: SpawnProcess) -> None:
    """Start ``process`` so that Ctrl-C and SIGTERM never reach it, not even while Python is starting there.

    Raises:
        OSError: the system gives no process, memory or file for it.
    """
    _leave_removed_folder()
    resource_tracker.ensure_running()  # or starting the process would start it, and that lets the signals through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@dataclass(frozen=True, slots=True)
class HelperProcess:
    """A child process that answers on a pipe. It has nothing to save, so it is killed and never asked to end."""

    process: SpawnProcess
    connection: Connection

    def close(self) -> None:
        """Kill the process and free its resources."""
        self.connection.close()
        atexit.unregister(self.process.kill)
        self.process.kill()
        self.process.join()


def start_helper(run: Callable[..., None], *args: object, name: str) -> HelperProcess:
    """Start ``run(connection, *args)`` in a process called ``name``.

    Raises:
        OSError: the system gives no process, memory or file for it.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with theirs:
        process = context.Process(target=run, args=(theirs, *args), name=name, daemon=True)
        try:
            start_shielded(process)
        except BaseException:
            ours.close()
            raise
    atexit.register(process.kill)  # multiprocessing would send a SIGTERM at exit, and wait
    return HelperProcess(process, ours)


def _leave_removed_folder() -> None:
    """Leave a working directory that was removed: multiprocessing reads its path, and no process would start."""
    try:
        os.getcwd()  # noqa: PTH109 - what multiprocessing calls
    except FileNotFoundError:
        log.warning("the working directory was removed; the server continues in / (relative paths no longer work)")
        os.chdir("/")


def end_with_parent() -> None:
    """In the child: end in any state as soon as the parent has ended."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, name="parent-watch", daemon=True).start()


class Outgoing:
    """The worker's end of the pipe, for several threads: llama.cpp and the compiling of grammars log from their own."""

    def __init__(self, connection: Connection) -> None:
        """Send on ``connection``."""
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, message: FromWorker) -> None:
        """Send ``message``; blocks while the pipe is full. Raises OSError where the parent is gone."""
        with self._lock:
            self._connection.send(message)


class LogPipe(logging.Handler):
    """Sends each line of the log. ``extra=about(request_id)`` says which request it is about."""

    def __init__(self, send: Callable[[Logged], None]) -> None:
        """Hand lines to ``send``."""
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Send ``record``; one that the parent does not live to read is lost."""
        error = record.exc_info[1] if record.exc_info else None
        lines = "" if error is None else "".join(traceback.format_exception(error)).rstrip()
        request_id = getattr(record, "engine_request", None)
        with contextlib.suppress(OSError):
            self._send(Logged(record.levelno, record.name, record.getMessage(), record.created, lines, request_id))


def about(request_id: int) -> Mapping[str, int]:
    """Return the ``extra`` of a log line."""
    return {"engine_request": request_id}


def log_record(line: Logged, engine: str) -> logging.LogRecord:
    """Return ``line`` as the parent logs it; ``engine`` is the name of its engine."""
    return logging.makeLogRecord(
        {
            "levelno": line.level, "levelname": logging.getLevelName(line.level), "name": line.logger,
            "msg": "%s", "args": (line.text,), "created": line.created, "msecs": line.created % 1 * 1000,
            "engine_trace": line.traceback, "fields": {"engine": engine},
        }
    )  # fmt: skip
