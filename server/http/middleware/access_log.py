"""A log line for each request, with its times and tokens."""

import logging
import time
from collections.abc import Iterator
from urllib.parse import quote

from starlette.types import ASGIApp, Receive, Scope, Send

from glmserve.http.request_record import CLIENT_CLOSED, RequestRecord, current_request

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
    if record.refusal:
        yield "error", record.refusal
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
