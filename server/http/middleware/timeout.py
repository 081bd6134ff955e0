"""How long a request may take."""

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glmserve.http.errors import RequestTimedOut
from glmserve.http.middleware.error_rendering import ErrorRenderer
from glmserve.http.request_record import current_request

GRACE_S = 1.0
"""Time left to a generation, to end a reply in good order at the limit."""


class TimeLimit:
    """Ends requests that take longer than the time limit.

    Whoever generates keeps to the limit itself (``glmserve.generation.deadline``), as only there a stream can be ended
    with a last event. Here is ended what takes its time elsewhere: a body that does not come, a model that loads; and
    what hangs because the caller does not read, whose connection is cut.
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
