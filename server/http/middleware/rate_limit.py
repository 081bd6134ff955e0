"""Rate limits of the keys, around every POST: requests and tokens per minute, and concurrent requests."""

import math
import time
from collections.abc import Callable

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glmserve.http.error_replies import ErrorRenderer
from glmserve.http.errors import RateLimited
from glmserve.http.request_record import Limits, RequestRecord, current_request

_MINUTE = 60.0
_TRY_AGAIN_S = 1
"""``Retry-After`` for a free place, as the end of a running request is unknown."""


class TokenBucket:
    """Rest of an allowance that refills evenly, to at most a minute's worth. It may be overdrawn."""

    def __init__(self, per_minute: int, now: float) -> None:
        """Start full; ``now`` is in seconds, on any clock that only goes forwards."""
        self.per_minute = per_minute
        self._level = float(per_minute)
        self._updated = now

    def level(self, now: float) -> float:
        """Return the rest; negative where more was taken."""
        return min(self.per_minute, self._level + (now - self._updated) * self.per_minute / _MINUTE)

    def take(self, amount: int, now: float) -> None:
        """Take ``amount``, even if fewer are left."""
        self._level, self._updated = self.level(now) - amount, now

    def seconds_until(self, tokens: float, now: float) -> float:
        """Return how long it takes until ``tokens`` is there."""
        return max(0.0, (tokens - self.level(now)) * _MINUTE / self.per_minute)


class RateLimiter:
    """Remaining allowance of one key.

    The tokens of a request are known only when it ends. So a request is admitted while any allowance is left, tokens of
    running requests count as used, and after an overdraft nothing is admitted until the bucket has refilled.
    """

    def __init__(self, limits: Limits, now: float) -> None:
        """Start with everything."""
        self._limits = limits
        self._requests = TokenBucket(limits.requests_per_minute, now) if limits.requests_per_minute else None
        self._tokens = TokenBucket(limits.tokens_per_minute, now) if limits.tokens_per_minute else None
        self._running: set[RequestRecord] = set()

    def enter(self, record: RequestRecord, now: float) -> None:
        """Let ``record`` in, until it leaves. Raises RateLimited."""
        if self._limits.concurrent and len(self._running) >= self._limits.concurrent:
            raise RateLimited(f"this key is limited to {self._limits.concurrent} concurrent requests", _TRY_AGAIN_S)
        if self._requests is not None and self._requests.level(now) < 1:
            self._reject(f"{self._requests.per_minute} requests", self._requests.seconds_until(1, now))
        if self._tokens is not None and self._tokens_left(now) < 1:
            self._reject(f"{self._tokens.per_minute} tokens", self._token_wait(1, now))
        if self._requests is not None:
            self._requests.take(1, now)
        self._running.add(record)

    def leave(self, record: RequestRecord, now: float) -> None:
        """Charge the tokens of ``record``."""
        self._running.remove(record)
        if self._tokens is not None:
            self._tokens.take(record.tokens, now)

    def headers(self, now: float) -> dict[str, str]:
        """Return the rest of the allowance, in OpenAI's headers."""
        headers: dict[str, str] = {}
        if self._requests is not None:
            full = self._requests.seconds_until(self._requests.per_minute, now)
            headers |= _headers("requests", self._requests.per_minute, self._requests.level(now), full)
        if self._tokens is not None:
            full = self._token_wait(self._tokens.per_minute, now)
            headers |= _headers("tokens", self._tokens.per_minute, self._tokens_left(now), full)
        return headers

    def _tokens_left(self, now: float) -> float:
        assert self._tokens is not None
        return self._tokens.level(now) - self._spent

    def _token_wait(self, tokens: float, now: float) -> float:
        assert self._tokens is not None
        return self._tokens.seconds_until(tokens + self._spent, now)

    @property
    def _spent(self) -> int:
        """Tokens that running requests have had so far."""
        return sum(record.tokens for record in self._running)

    def _reject(self, what: str, seconds: float) -> None:
        raise RateLimited(f"this key is limited to {what} per minute", max(1, math.ceil(seconds)))


def _headers(what: str, limit: int, left: float, seconds: float) -> dict[str, str]:
    return {
        f"x-ratelimit-limit-{what}": str(limit),
        f"x-ratelimit-remaining-{what}": str(max(0, math.floor(left))),
        f"x-ratelimit-reset-{what}": _duration(seconds),
    }


def _duration(seconds: float) -> str:
    """Return a time as OpenAI writes it: 120ms, 7s, 1m30s."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


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

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(budget.headers(self._clock()))
            await send(message)

        try:
            budget.enter(record, self._clock())
        except RateLimited as error:
            return await self._renderer.reply(scope, error)(scope, receive, with_headers)
        return await self._counted(budget, record, scope, receive, with_headers)

    async def _counted(
        self, budget: RateLimiter, record: RequestRecord, scope: Scope, receive: Receive, send: Send
    ) -> None:
        try:
            await self._app(scope, receive, send)
        finally:
            budget.leave(record, self._clock())
