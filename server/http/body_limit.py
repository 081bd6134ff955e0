"""The size limit of bodies."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import BodyTooLarge


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
