"""Limits of one request: the size, time and memory of its body, room in the queues, and its total time."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glmserve.engine.errors import QueueFull
from glmserve.engine.interface import Caller
from glmserve.http.error_replies import ErrorRenderer
from glmserve.http.errors import BodyTooLarge, BodyTooSlow, RequestTimedOut, UnsupportedEncoding
from glmserve.http.request_record import current_request

BODY_SECONDS = 30.0
"""Seconds that a body of any size may take."""
BYTES_PER_SECOND = 16 * 1024
"""One extra second per this many bytes received."""
MOST_AT_ONCE = 8
"""Maximum number of full-size bodies in memory that are still incomplete."""

_NOT_COMPRESSED = ("", "identity")


@dataclass(eq=False, slots=True)
class _Upload:
    """A body that is coming."""

    received: int = 0
    started: float = field(default_factory=anyio.current_time)
    waiting: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    """For its next piece."""
    is_over: bool = False
    """It was given up for others."""
    encoding: str = ""
    """How it is compressed."""

    @property
    def deadline(self) -> float:
        return self.started + BODY_SECONDS + self.received / BYTES_PER_SECOND


class BodyLimit:
    """Rejects a body past ``limit`` bytes as soon as that shows, one that is compressed, and one that does not come.

    What has come of bodies that are not complete is bounded together: for more, the one that is longest under way goes.
    The rejection is raised where the route reads the body, so each dialect words it its own way.
    """

    def __init__(self, app: ASGIApp, limit: int, applies: Callable[[str], bool] = bool) -> None:
        """Wrap ``app``; ``applies`` tells of a path whether the limit holds there."""
        self._app = app
        self._limit = limit
        self._applies = applies
        self._uploads: dict[_Upload, None] = {}
        """Incomplete bodies, oldest first."""
        self._incomplete_bytes = 0
        """Bytes of these."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http" or not self._applies(scope["path"]):
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        upload = _Upload(encoding=headers.get("content-encoding", "").strip())
        declared = headers.get("content-length", "")
        # Counted as received when it is too much: nothing of it need be read then.
        upload.received = self._limit + 1 if _exceeds(declared, self._limit) else 0
        is_complete = False

        async def limited() -> Message:
            nonlocal is_complete
            if is_complete:
                return await receive()
            message = await self._next(upload, receive)
            is_complete = not message.get("more_body", False)
            if is_complete:
                self._forget(upload)
            return message

        try:
            return await self._app(scope, limited, send)
        finally:
            self._forget(upload)

    async def _next(self, upload: _Upload, receive: Receive) -> Message:
        """Return the next piece of a body. Raises BodyTooLarge, BodyTooSlow or UnsupportedEncoding."""
        if upload.encoding.lower() not in _NOT_COMPRESSED:
            raise UnsupportedEncoding(upload.encoding)
        if upload.received > self._limit:
            raise BodyTooLarge(self._limit)
        if not upload.is_over:
            self._uploads[upload] = None
            with anyio.CancelScope(deadline=upload.deadline) as upload.waiting:
                message = await receive()
        if upload.is_over or upload.waiting.cancelled_caught:
            raise BodyTooSlow(BODY_SECONDS, BYTES_PER_SECOND)
        size = len(message.get("body", b""))
        upload.received += size
        self._incomplete_bytes += size
        if upload.received > self._limit:
            raise BodyTooLarge(self._limit)
        self._make_room()
        return message

    def _make_room(self) -> None:
        while self._incomplete_bytes > self._limit * MOST_AT_ONCE:
            oldest = next(iter(self._uploads))
            self._forget(oldest)
            oldest.is_over = True
            oldest.waiting.cancel()

    def _forget(self, upload: _Upload) -> None:
        if upload in self._uploads:
            del self._uploads[upload]
            self._incomplete_bytes -= upload.received


def _exceeds(declared: str, limit: int) -> bool:
    """Return whether a Content-Length is past ``limit``; the digits are counted first, as the header is unchecked."""
    return declared.isdecimal() and (len(declared) > 18 or int(declared) > limit)


class Shedding:
    """Answers 429 to requests for an answer while all queues are full for their callers.

    Under many times the load that can be computed nearly all are rejected. Where they were read, checked and tokenised
    first, each cost 1.6 ms instead of 0.26, on the cores that compute the others.
    """

    def __init__(
        self, app: ASGIApp, paths: Collection[str], check_room: Callable[[Caller], None], renderer: ErrorRenderer
    ) -> None:
        """Wrap ``app``; ``check_room`` raises QueueFull where a POST to one of ``paths`` would be rejected."""
        self._app = app
        self._paths = paths
        self._check_room = check_room
        self._renderer = renderer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in self._paths:
            try:
                record = current_request()
                self._check_room(Caller(record.caller, record.seconds_left()))
            except QueueFull as error:
                return await self._renderer.reply(scope, error)(scope, receive, send)
        return await self._app(scope, receive, send)


GRACE_S = 1.0
"""Time left to a generation, to end a reply in good order at the limit."""


class TimeLimit:
    """Ends requests that take longer than the time limit.

    A generation keeps to the limit itself (``generation.generation.Deadline``), as only there a stream can be
    ended with a last event. Here is ended what takes its time elsewhere: a body that does not come, a model that
    loads; and what hangs because the caller does not read, whose connection is cut.
    """

    def __init__(self, app: ASGIApp, seconds: float, renderer: ErrorRenderer) -> None:
        """Wrap ``app``."""
        self._app = app
        self._seconds = seconds
        self._renderer = renderer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        record = current_request()
        record.time_limit = self._seconds
        with anyio.move_on_after(record.seconds_left() + GRACE_S) as limit:
            await self._app(scope, receive, watched)
        if limit.cancelled_caught and not started:
            await self._renderer.reply(scope, RequestTimedOut(self._seconds))(scope, receive, send)
        return None
