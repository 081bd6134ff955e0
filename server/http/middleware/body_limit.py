"""Limits of bodies: size, time, and total memory."""

from dataclasses import dataclass, field

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glmserve.http.errors import BodyTooLarge, BodyTooSlow, UnsupportedEncoding

BODY_SECONDS = 30.0
"""How long a body may take, whatever its size."""
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
    The refusal is raised where the route reads the body, so each dialect words it its own way.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        """Wrap ``app``."""
        self._app = app
        self._limit = limit
        self._uploads: dict[_Upload, None] = {}
        """Incomplete bodies, oldest first."""
        self._held = 0
        """Bytes of these."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
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
        self._held += size
        if upload.received > self._limit:
            raise BodyTooLarge(self._limit)
        self._make_room()
        return message

    def _make_room(self) -> None:
        while self._held > self._limit * MOST_AT_ONCE:
            oldest = next(iter(self._uploads))
            self._forget(oldest)
            oldest.is_over = True
            oldest.waiting.cancel()

    def _forget(self, upload: _Upload) -> None:
        if upload in self._uploads:
            del self._uploads[upload]
            self._held -= upload.received


def _exceeds(declared: str, limit: int) -> bool:
    """Return whether a Content-Length is past ``limit``; the digits are counted first, as the header is unchecked."""
    return declared.isdecimal() and (len(declared) > 18 or int(declared) > limit)
