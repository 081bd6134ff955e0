"""Web pages of other origins: CORS for allowed origins, and a guard against all other pages.

A browser lets any page send requests to any address that the browser can reach, and to this machine: blindly, where
CORS keeps the reply from the page, or with the reply, where the page's own name leads to this machine (DNS rebinding).
Browsers tell of both: of a request that a page of another site made (``Sec-Fetch-Site``, ``Origin``), and under which
name the server was called (``Host``). Programs send neither of the first two, and notice nothing.
"""

from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from glmserve.http.error_replies import ErrorRenderer
from glmserve.http.errors import CrossSiteRejected, HostRejected
from glmserve.http.origins import ALL, Origins, host_of, is_local_host, is_same_authority
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


_SAFE_METHODS = ("GET", "HEAD")


class CrossSiteGuard:
    """Answers 403 to requests from pages of origins that are not allowed, and to a foreign host name."""

    def __init__(
        self, app: ASGIApp, origins: Origins, hosts: Iterable[str], renderer: ErrorRenderer, *, checks_host: bool
    ) -> None:
        """Wrap ``app``.

        Args:
            app: the application.
            origins: whose pages may call.
            hosts: names, in lower case, by which the server may be called; "*" is any.
            renderer: renders the error reply.
            checks_host: the server may be called by those names and by names of this machine alone.
        """
        self._app = app
        self._origins = origins
        self._hosts = frozenset(hosts)
        self._renderer = renderer
        self._checks_host = checks_host and ALL not in self._hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            rejection = self._foreign_host(headers) or self._foreign_page(scope["method"], headers)
            if rejection is not None:
                return await self._renderer.reply(scope, rejection)(scope, receive, send)
        return await self._app(scope, receive, send)

    def _foreign_host(self, headers: Headers) -> HostRejected | None:
        if self._checks_host:
            for authority in headers.getlist("host"):
                host = host_of(authority)
                if authority.strip() and not is_local_host(host) and host not in self._hosts:
                    return HostRejected(authority)
        return None

    def _foreign_page(self, method: str, headers: Headers) -> CrossSiteRejected | None:
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site == "same-origin" or self._origins.all:
            return None
        if origin is not None:
            own = site is None and is_same_authority(origin, headers.get("host", ""))
            return None if own or self._origins.allows(origin) else CrossSiteRejected(origin)
        if site in (None, "none") or (method in _SAFE_METHODS and _is_visit(headers)):
            return None
        return CrossSiteRejected(None)


def _is_visit(headers: Headers) -> bool:
    """Return whether the user follows a link to here: the reply is shown to the user, and never to the linking page."""
    return headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
