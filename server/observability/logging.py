"""How lines of the log are written: for people, or as JSON for programs.

Nothing that people wrote gets into a line unless it was asked for: where an error is logged with its traceback, the
error's own words are left out, as they may quote a request.
"""

import json
import logging
import sys
import traceback
from collections.abc import Iterator
from datetime import datetime, timezone

from glmserve.config.values import LogFormat, LogLevel
from glmserve.http.request_record import current_request

_CHATTY = ("uvicorn.error", "httpx", "asyncio")
"""Loggers whose routine messages are of interest only for debugging."""
_TELLS_TEXTS = ("sse_starlette",)
"""These put the pieces of answers into their debug lines."""


class RequestIdFilter(logging.Filter):
    """Gives every line of the log the ``request_id`` that it is about; "-" where it is about none."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Complete ``record``; keep it in any case."""
        record.request_id = current_request().id
        return True


class TextFormatter(logging.Formatter):
    """A line for people."""

    def __init__(self, *, with_texts: bool = False) -> None:
        """``with_texts`` keeps the words of errors."""
        super().__init__("%(asctime)s %(levelname)s %(name)s [%(request_id)s]: %(message)s")
        self._with_texts = with_texts

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and the traceback below it."""
        record.message = record.getMessage()
        record.asctime = self.formatTime(record, self.datefmt)
        return "\n".join(filter(None, (self.formatMessage(record), error_text(record, with_texts=self._with_texts))))


class JsonFormatter(logging.Formatter):
    """A JSON object: time, level, logger, message, and further fields of the event."""

    def __init__(self, *, with_texts: bool = False) -> None:
        """``with_texts`` keeps the words of errors."""
        super().__init__()
        self._with_texts = with_texts

    def format(self, record: logging.LogRecord) -> str:
        """Return the object, on one line."""
        time = datetime.fromtimestamp(record.created, timezone.utc)
        line: dict[str, object] = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (request_id := getattr(record, "request_id", "-")) != "-":
            line["request_id"] = request_id
        line.update(getattr(record, "fields", {}))
        if error := error_text(record, with_texts=self._with_texts):
            line["error_trace"] = error
        return json.dumps(line, ensure_ascii=False, default=str)


def error_text(record: logging.LogRecord, *, with_texts: bool) -> str:
    """Return the traceback of ``record``, if it has one; without ``with_texts`` only types and places."""
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return str(getattr(record, "engine_trace", ""))  # the engine knows tokens, and no text
    if with_texts:
        return "".join(traceback.format_exception(error)).rstrip()
    return "\n".join(_places(error))


def _places(error: BaseException) -> Iterator[str]:
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        yield from _places(cause)
        yield "which led to"
    yield "".join(traceback.format_tb(error.__traceback__)).rstrip()
    yield f"{type(error).__module__}.{type(error).__qualname__} (--log-prompts shows its message)"
    for part in getattr(error, "exceptions", ()):
        yield from _places(part)


def configure_logging(level: LogLevel, log_format: LogFormat = LogFormat.TEXT, *, with_texts: bool = False) -> None:
    """Log to standard error, without the routine messages of libraries.

    Args:
        level: the least that is logged.
        log_format: how.
        with_texts: what people wrote may be logged.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(RequestIdFilter())
    formatter = JsonFormatter if log_format is LogFormat.JSON else TextFormatter
    handler.setFormatter(formatter(with_texts=with_texts))
    logging.basicConfig(level=level.value.upper(), handlers=[handler])
    logging.captureWarnings(True)
    if level is not LogLevel.DEBUG:
        _quieten(_CHATTY, logging.WARNING)
    if not with_texts:
        _quieten(_TELLS_TEXTS, logging.INFO)


def _quieten(names: tuple[str, ...], level: int) -> None:
    for name in names:
        logging.getLogger(name).setLevel(max(level, logging.getLogger().level))
