"""Errors in the words of the dialect that an address speaks."""

import logging
from collections.abc import Callable, Mapping

from fastapi.responses import JSONResponse
from starlette.types import Scope

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
