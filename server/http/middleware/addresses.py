"""The addresses of a server, and how callers write them."""

import difflib
import re
from collections.abc import Iterable

from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_PREFIX = "/v1"
_SLASHES = re.compile("/{2,}")
_COMPARED_CHARACTERS = 64
"""Of an unknown address, at most; comparing takes time in proportion to the square of this."""
_LIKENESS = 0.75


class Addresses:
    """The templates of all routes. Pure."""

    def __init__(self, templates: Iterable[str]) -> None:
        """``templates`` are paths, with parameters in braces."""
        self._templates = tuple(dict.fromkeys(templates))
        self._plain = frozenset(one for one in self._templates if "{" not in one)
        self._patterns = tuple(compile_path(one)[0] for one in self._templates if "{" in one)

    def resolve(self, path: str) -> str:
        """Return the address that ``path`` stands for; slashes too many and a missing ``/v1`` do not matter."""
        if path in self._plain:
            return path
        path = _SLASHES.sub("/", path)
        path = path.rstrip("/") or "/"
        return path if self._knows(path) or not self._knows(_PREFIX + path) else _PREFIX + path

    def nearest(self, path: str) -> str | None:
        """Return the address most like ``path``, if any is much like it."""
        return next(iter(difflib.get_close_matches(path[:_COMPARED_CHARACTERS], self._templates, 1, _LIKENESS)), None)

    def _knows(self, path: str) -> bool:
        return path in self._plain or any(pattern.match(path) for pattern in self._patterns)


class ResolveAddress:
    """Gives each request the address that its path stands for, and answers HEAD wherever there is a GET.

    It lies around all that goes by the path of a request, such as the check of keys.
    """

    def __init__(self, app: ASGIApp, addresses: Addresses) -> None:
        """Wrap ``app``."""
        self._app = app
        self._addresses = addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        path = self._addresses.resolve(scope["path"])
        if path != scope["path"]:
            scope = {**scope, "path": path, "raw_path": path.encode()}
        if scope["method"] != "HEAD":
            return await self._app(scope, receive, send)

        async def without_body(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        return await self._app({**scope, "method": "GET"}, receive, without_body)
