"""Error replies in the format of each dialect, and the middleware for unhandled exceptions."""

import logging
from collections.abc import Callable, Mapping

from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glmserve.http.error_replies import ErrorReply, describe, is_expected
from glmserve.http.request_record import current_request

log = logging.getLogger(__name__)

Shape = Callable[[ErrorReply], Mapping[str, object]]


class ErrorRenderer:
    """The reply to an error, raised by a route or by middleware."""

    def __init__(self, shapes: Mapping[str, Shape]) -> None:
        """``shapes`` are the error shapes of POST requests to a path and below; all other errors have OpenAI's."""
        self._shapes = shapes

    def reply(self, scope: Scope, error: Exception) -> JSONResponse:
        """Return the reply to a request that ended with ``error``; an unexpected one is logged."""
        if not is_expected(error):
            log.error("unhandled error in %s %s", scope["method"], scope["path"], exc_info=error)
        told = describe(error)
        current_request().refusal = told.code or ""
        return JSONResponse(self._shape(scope)(told), told.status, headers=told.headers())

    def _shape(self, scope: Scope) -> Shape:
        path = scope["path"] if scope["method"] == "POST" else ""
        return next((shape for own, shape in self._shapes.items() if _is_below(path, own)), ErrorReply.envelope)


def _is_below(path: str, own: str) -> bool:
    return path == own or (own != "/" and path.startswith(f"{own}/"))


class ServerErrorMiddleware:
    """Turns an unhandled exception into a 500, and logs it with its traceback."""

    def __init__(self, app: ASGIApp, renderer: ErrorRenderer) -> None:
        """Wrap ``app``."""
        self._app = app
        self._renderer = renderer

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
            await self._renderer.reply(scope, error)(scope, receive, send)
