"""The reply to an unhandled exception."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glmserve.http.middleware.error_rendering import ErrorRenderer


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
