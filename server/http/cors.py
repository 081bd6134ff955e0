"""What a page of another origin may do with this server from within a browser."""

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

EXPOSED = (
    "x-request-id", "request-id", "openai-processing-ms", "retry-after",
    "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests",
    "x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens",
)  # fmt: skip
"""Headers of a reply that a script may read."""

_PREFLIGHT_SECONDS = 3600


def cross_origin(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """Return ``app`` for pages of these origins; "*" is all.

    Keys travel in headers that a script sets itself. Credentials that the browser adds of its own accord (cookies)
    mean nothing here, and so are never allowed: then "*" gives no origin anything that a program would not have.
    """
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=["GET", "HEAD", "POST", "DELETE"],
        # All: the official clients send a dozen headers of their own (x-stainless-…), and new ones come.
        allow_headers=["*"],
        # What Chrome 104 to 141 asks for a page of the public web: an origin that may call, may do so from there.
        allow_private_network=True,
        expose_headers=EXPOSED,
        max_age=_PREFLIGHT_SECONDS,
    )
