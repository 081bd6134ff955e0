"""Budgets of the keys, around every POST."""

import time
from collections.abc import Callable

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glmserve.http.errors import RateLimited
from glmserve.http.middleware.error_rendering import ErrorRenderer
from glmserve.http.middleware.token_bucket import RateLimiter
from glmserve.http.request_record import Limits, RequestRecord, current_request


class RateLimit:
    """Answers 429 to requests past the limit of their key, and adds rate limit headers to every reply.

    Without keys, all callers share one budget.
    """

    def __init__(
        self, app: ASGIApp, limits: Limits, renderer: ErrorRenderer, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Wrap ``app``; ``limits`` apply to requests without a key. ``clock`` gives seconds."""
        self._app = app
        self._limits = limits
        self._renderer = renderer
        self._clock = clock
        self._budgets: dict[str, RateLimiter] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        record = current_request()
        limits = record.limits or self._limits
        if scope["type"] != "http" or scope["method"] != "POST" or limits == Limits():
            return await self._app(scope, receive, send)
        if record.key not in self._budgets:
            self._budgets[record.key] = RateLimiter(limits, self._clock())
        budget = self._budgets[record.key]

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(budget.headers(self._clock()))
            await send(message)

        try:
            budget.enter(record, self._clock())
        except RateLimited as error:
            return await self._renderer.reply(scope, error)(scope, receive, told)
        return await self._counted(budget, record, scope, receive, told)

    async def _counted(
        self, budget: RateLimiter, record: RequestRecord, scope: Scope, receive: Receive, send: Send
    ) -> None:
        try:
            await self._app(scope, receive, send)
        finally:
            budget.leave(record, self._clock())
