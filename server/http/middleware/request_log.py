"""Records of each request: an access log line, its unknown fields, a trace span."""

import logging
import time
from collections.abc import Collection, Iterable, Iterator
from typing import Protocol
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glmserve.http.errors import shown
from glmserve.http.request_record import CLIENT_CLOSED, IGNORED_FIELDS, RequestRecord, current_request

log = logging.getLogger(__name__)


class AccessLog:
    """Logs each request at its end: caller, address, outcome and token counts, never text."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap ``app``."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        try:
            await self._app(scope, receive, send)
        finally:
            if scope["type"] == "http":
                fields = dict(access_fields(scope, current_request()))
                log.info("%s", _in_words(fields), extra={"fields": fields})


def access_fields(scope: Scope, record: RequestRecord) -> Iterator[tuple[str, object]]:
    """Yield the fields of a request's log line, by the names of the JSON log; times in seconds.

    The path is quoted, so that no line ends in it; what followed a ``?`` is left out.
    """
    yield "method", scope["method"]
    yield (
        "path",
        quote(scope["path"]),
    )
    if scope.get("client"):
        yield "client", scope["client"][0]
    yield "status", record.status or CLIENT_CLOSED
    yield "seconds", round(time.monotonic() - record.arrived, 4)
    if not record.complete:
        yield "complete", False
    if record.key:
        yield "key", record.key
    if record.rejection:
        yield "error", record.rejection
    if not record.generations:
        return
    first = record.generations[0]
    yield "model", first.model
    yield "prompt_tokens", sum(one.prompt_tokens for one in record.generations)
    yield "cached_tokens", sum(one.cached_tokens for one in record.generations)
    yield "completion_tokens", sum(one.completion_tokens for one in record.generations)
    if first.queue_seconds is not None:
        yield "queue_seconds", round(first.queue_seconds, 4)
        yield "first_token_seconds", round(first.first_token - record.arrived, 4)


def _in_words(fields: dict[str, object]) -> str:
    head = "{method} {path} {status}".format_map(fields)
    rest = (f"{name}={value}" for name, value in fields.items() if name not in ("method", "path", "status"))
    return " ".join((head, *rest))


_REMEMBERED = 1000
"""Names that were logged: callers can send any number of them."""


class IgnoredFields:
    """Has such fields rejected where that is set; else names each once in the log. ``RequestIds`` tells the caller."""

    def __init__(self, app: ASGIApp, *, strict: bool) -> None:
        """Wrap ``app``; where it is ``strict``, such fields are rejected."""
        self._app = app
        self._strict = strict
        self._logged: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        record = current_request()
        record.strict_fields = self._strict

        async def logged(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._log(record.listed.get(IGNORED_FIELDS, ()), scope["path"])
            await send(message)

        await self._app(scope, receive, logged)

    def _log(self, names: Iterable[str], path: str) -> None:
        for name in names:
            if name not in self._logged and len(self._logged) < _REMEMBERED:
                self._logged.add(name)
                log.warning("the field %s of %s is unknown and was ignored; logged once per field", shown(name), path)


class SpanWriter(Protocol):
    """Makes spans of requests that have ended; ``server/observability/otel.py`` has the real one."""

    def write(self, scope: Scope, record: RequestRecord, started: float) -> None:
        """Note a request that came at ``started``, in seconds since the epoch, and has ended now."""

    def close(self) -> None:
        """Send the remaining spans. Blocks."""


class Spans:
    """Hands each request for an answer to a writer of spans."""

    def __init__(self, app: ASGIApp, writer: SpanWriter, generating: Collection[str]) -> None:
        """Wrap ``app``; ``generating`` are the paths where a POST asks for an answer."""
        self._app = app
        self._writer = writer
        self._generating = generating

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in self._generating:
            return await self._app(scope, receive, send)
        started = time.time()
        try:
            return await self._app(scope, receive, send)
        finally:
            self._writer.write(scope, current_request(), started)
