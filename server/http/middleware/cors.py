"""CORS: the replies that pages of other origins may read within a browser."""

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from glmserve.http.origins import ALL, Origins
from glmserve.http.request_record import IGNORED_FIELDS, IGNORED_TOOLS, RELAXED_SCHEMAS

EXPOSED = (
    "x-request-id", "request-id", "openai-processing-ms", "retry-after",
    IGNORED_FIELDS, IGNORED_TOOLS, RELAXED_SCHEMAS,
    "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests",
    "x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens",
)  # fmt: skip
"""Headers of a reply that a script may read."""

_PREFLIGHT_SECONDS = 3600
_PRIVATE_NETWORK = "Access-Control-Allow-Private-Network"


class CrossOrigin(CORSMiddleware):
    """Lets pages of some origins read replies.

    Keys travel in headers that a script sets itself. Credentials that the browser adds of its own accord (cookies)
    mean nothing here, and so are never allowed: then "*" gives no origin anything that a program would not have.
    """

    def __init__(self, app: ASGIApp, origins: Origins) -> None:
        """Wrap ``app``."""
        super().__init__(
            app,
            allow_origins=[ALL] if origins.all else [],
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            # All: the official clients send a dozen headers of their own (x-stainless-…), and new ones come.
            allow_headers=["*"],
            # What Chrome 104 to 141 asks for a page of the public web: an origin that may call, may do so from there.
            allow_private_network=True,
            expose_headers=EXPOSED,
            max_age=_PREFLIGHT_SECONDS,
        )
        self._origins = origins

    def is_allowed_origin(self, origin: str) -> bool:
        """Return whether pages of ``origin`` may read replies."""
        return self._origins.allows(origin)

    def preflight_response(self, request_headers: Headers) -> Response:
        """Return the reply to a preflight; a rejected one has no CORS headers."""
        reply = super().preflight_response(request_headers)
        if not self.is_allowed_origin(request_headers["origin"]) and _PRIVATE_NETWORK in reply.headers:
            del reply.headers[_PRIVATE_NETWORK]
        return reply
