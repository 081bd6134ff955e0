"""Reports fields of a request that the server does not know."""

import logging
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glmserve.http.errors import shown
from glmserve.http.request_record import IGNORED_FIELDS, current_request

log = logging.getLogger(__name__)

_REMEMBERED = 1000
"""Names that were logged: callers can send any number of them."""


class IgnoredFields:
    """Has such fields rejected where that is set; else names each once in the log. ``RequestIds`` tells the caller."""

    def __init__(self, app: ASGIApp, *, strict: bool) -> None:
        """Wrap ``app``; where it is ``strict``, such fields are rejected."""
        self._app = app
        self._strict = strict
        self._logged: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        record = current_request()
        record.strict_fields = self._strict

        async def logged(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._log(record.listed.get(IGNORED_FIELDS, ()), scope["path"])
            await send(message)

        await self._app(scope, receive, logged)

    def _log(self, names: Iterable[str], path: str) -> None:
        for name in names:
            if name not in self._logged and len(self._logged) < _REMEMBERED:
                self._logged.add(name)
                log.warning("the field %s of %s is unknown and was ignored; logged once per field", shown(name), path)
