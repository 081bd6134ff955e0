"""Waiting until a moment at the latest, at next to no cost for each of many waits."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from glmserve.http.errors import RequestTimedOut
from glmserve.http.request_context import RequestContext

_T = TypeVar("_T")


class Deadline:
    """That of a request. One timer serves all of its waits; close it in the end."""

    def __init__(self, context: RequestContext) -> None:
        """Start the timer where ``context`` has a time limit."""
        self._limit = context.time_limit
        self._expired = False
        self._waiting: asyncio.Task[object] | None = None
        self._timer: asyncio.TimerHandle | None = None
        if self._limit:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(context.seconds_left(), self._expire)

    async def wait(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """Await ``work`` within the time limit.

        Raises:
            RequestTimedOut: the time was up before that; what was started is cancelled.
        """
        if self._expired:
            raise RequestTimedOut(self._limit)
        self._waiting = asyncio.current_task()
        try:
            return await work()
        except asyncio.CancelledError:
            if not self._expired or _cancelled_otherwise(self._waiting):
                raise
            raise RequestTimedOut(self._limit) from None
        finally:
            self._waiting = None

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _expire(self) -> None:
        self._expired = True
        if self._waiting is not None:
            self._waiting.cancel()


def _cancelled_otherwise(task: "asyncio.Task[object] | None") -> bool:
    """Take back one cancellation of ``task``; return whether there was another. Python 3.10 does not know."""
    take_back = getattr(task, "uncancel", None)
    return take_back is not None and take_back() > 0
