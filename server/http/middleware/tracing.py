"""Writes a trace span of each generation request at its end."""

import time
from collections.abc import Collection
from typing import Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from glmserve.http.request_record import RequestRecord, current_request


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
