"""The log of the engine process, sent to its parent: one process writes all lines, in one format."""

import contextlib
import logging
import threading
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection

from glmserve.engine.messages import FromWorker, Logged


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
