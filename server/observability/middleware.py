"""Counts requests, around everything that may answer one."""

from collections.abc import Collection

from starlette.types import ASGIApp, Receive, Scope, Send

from glmserve.http.request_record import CLIENT_CLOSED, current_request
from glmserve.observability.request_metrics import RequestMetrics
from glmserve.observability.request_outcome import OutcomeKind, RequestOutcome, outcome_of

_OTHER = "other"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class MetricsMiddleware:
    """Counts each request in the metrics."""

    def __init__(self, app: ASGIApp, ledger: RequestMetrics, generating: Collection[str]) -> None:
        """Wrap ``app``; ``generating`` are the paths where a POST asks for an answer."""
        self._app = app
        self._ledger = ledger
        self._generating = generating

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        try:
            if scope["method"] == "POST" and scope["path"] in self._generating:
                await self._generation(scope, receive, send)
            else:
                await self._app(scope, receive, send)
        finally:
            method = scope["method"] if scope["method"] in _METHODS else _OTHER
            self._ledger.http(self._route(scope), method, current_request().status or CLIENT_CLOSED)
        return None

    async def _generation(self, scope: Scope, receive: Receive, send: Send) -> None:
        record = current_request()
        outcome = RequestOutcome(OutcomeKind.FAILED, "internal_error")
        self._ledger.open(record)
        try:
            await self._app(scope, receive, send)
            outcome = outcome_of(record)
        finally:
            self._ledger.close(record, outcome)

    def _route(self, scope: Scope) -> str:
        """Return the template of the address; one that did not get as far as routing is known by its path at most."""
        path = scope["path"] if scope["path"] in self._generating else _OTHER
        return str(getattr(scope.get("route"), "path_format", path))
