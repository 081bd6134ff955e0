"""Around every route, as plain ASGI: the size limit of bodies, and the reply of last resort."""

import logging

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import BodyTooLarge, describe

log = logging.getLogger(__name__)


class BodyLimit:
    """Refuses a body past ``limit`` bytes, as soon as that shows.

    The refusal is raised where the route reads the body, so each dialect words it its own way.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        """Wrap ``app``."""
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        declared = Headers(scope=scope).get("content-length", "")
        # Counted as received when it is too much: nothing of it need be read then.
        received = self._limit + 1 if _exceeds(declared, self._limit) else 0

        async def limited() -> Message:
            nonlocal received
            if received > self._limit:
                raise BodyTooLarge(self._limit)
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                raise BodyTooLarge(self._limit)
            return message

        return await self._app(scope, limited, send)


def _exceeds(declared: str, limit: int) -> bool:
    """Return whether a Content-Length is past ``limit``; the digits are counted first, as nobody else has."""
    return declared.isdecimal() and (len(declared) > 18 or int(declared) > limit)


class LastResort:
    """Turns what no handler expected into a 500 in the usual envelope, and logs it with its traceback."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap ``app``."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            if scope["type"] != "http" or started:
                # Too late for a status: the server cuts the connection, and logs this.
                raise
            log.exception("unhandled error in %s %s", scope["method"], scope["path"])
            await JSONResponse(describe(error).envelope(), 500)(scope, receive, send)
