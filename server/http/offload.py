"""Reading a request's body, and its work that takes the processor for long, beside the event loop and in turn.

The interpreter runs one thread at a time, and a thread that waits for it gets it after a few milliseconds. With a
single busy thread beside the loop that is the longest pause; with more of them it would be as many times that.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import cache, partial
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from glmserve.http.errors import ClientDisconnected, ServerBusy
from glmserve.http.json_body import parse_object
from glmserve.http.request_record import current_request

_T = TypeVar("_T")

INLINE_BYTES = 16 * 1024
"""Work on less than this takes some milliseconds at most, so that it is done on the event loop."""
MOST_WAITING_BYTES = 64 << 20
"""Of bodies that wait for their turn, all together."""


async def read_off_loop(work: Callable[[], _T], size: int) -> _T:
    """Return the result of ``work`` on a body of ``size`` bytes, which is not counted anywhere any more.

    Raises:
        ServerBusy: too many bytes wait already to keep this body until its turn.
    """
    return work() if size <= INLINE_BYTES else await _heavy_work().run(work, size)


async def off_loop(work: Callable[[], _T], size: int | None = None) -> _T:
    """Return the result of ``work``, whose time goes by ``size`` in bytes: the request's body unless given."""
    given = current_request().body_bytes if size is None else size
    return work() if given <= INLINE_BYTES else await _heavy_work().run(work, 0)


class _HeavyWork:
    """One thread, and how much waits for it."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "heavy-work")
        self._lock = threading.Lock()
        self._waiting_bytes = 0

    async def run(self, work: Callable[[], _T], size: int) -> _T:
        """Return the result of ``work``. Raises ServerBusy where there is no room to keep ``size`` bytes."""
        with self._lock:
            if size and self._waiting_bytes and self._waiting_bytes + size > MOST_WAITING_BYTES:
                raise ServerBusy
            self._waiting_bytes += size
        future: Future[_T] = self._thread.submit(copy_context().run, work)
        future.add_done_callback(lambda _: self._done(size))
        return await asyncio.wrap_future(future)

    def _done(self, size: int) -> None:
        with self._lock:
            self._waiting_bytes -= size


@cache
def _heavy_work() -> _HeavyWork:
    return _HeavyWork()


async def read_request(request: Request, check: Callable[[dict[str, object]], _T], *, unique_keys: bool = True) -> _T:
    """Return ``check`` applied to the body, a JSON object of any Content-Type.

    Large bodies are parsed and checked beside the event loop.

    Args:
        request: whose body it is.
        check: makes a checked request of the object.
        unique_keys: reject an object that has a key twice; otherwise the last one counts.

    Raises:
        InvalidRequest: it is none, or holds what is no text or no number, or ``check`` rejects it.
        BodyTooLarge: it is past the limit.
        ServerBusy: too many large bodies wait to be parsed.
        ClientDisconnected: the client disconnected before its end.
    """
    try:
        # Not request.body(), which would keep the bytes until the answer is complete.
        body = b"".join([chunk async for chunk in request.stream()])
    except ClientDisconnect:
        raise ClientDisconnected from None
    current_request().body_bytes = len(body)
    work = partial(_checked, [body], check, unique_keys=unique_keys)
    del body
    return await read_off_loop(work, current_request().body_bytes)


async def disconnected(request: Request) -> None:
    """Return once the caller has closed the connection; the body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _checked(body: list[bytes], check: Callable[[dict[str, object]], _T], *, unique_keys: bool) -> _T:
    """Return ``check`` applied to the object in ``body``."""
    return check(parse_object(body, unique_keys=unique_keys))
