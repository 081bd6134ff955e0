"""GET / for browsers: the chat page, the API's page at ``/docs``, and below ``/page`` their files, read once."""

import gzip
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from starlette.exceptions import HTTPException
from starlette.types import Scope

from glmserve.page.api_page import render

_STATIC = Path(__file__).with_name("static")
_ENTRY = "index.html"
_VERSION = b"{{version}}"
_LATER = ("js/theme.js", "vendor/katex.js", "vendor/highlight.js")
"""Scripts that are not fetched at once: one that is no module, and the scripts of formulas and code."""
_MODULES = b"{{modules}}"
_DIGITS = 16
_MEDIA_TYPES: Mapping[str, str] = MappingProxyType(
    {
        ".html": "text/html; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".svg": "image/svg+xml",
        ".txt": "text/plain; charset=utf-8",
        ".png": "image/png",
        ".webmanifest": "application/manifest+json",
        ".woff2": "font/woff2",
    }
)


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file as it is sent."""

    content: bytes
    packed: bytes
    """The same by gzip."""
    media_type: str
    etag: str
    """Weak, as it stands for both."""


@dataclass(frozen=True, slots=True)
class PageFiles:
    """The page itself, and the files that it loads."""

    version: str
    """Changes with every byte of any file: part of their addresses, so that they may be cached for ever."""
    entry: PageFile
    parts: Mapping[str, PageFile]
    """By path below the folder of the version."""


@cache
def read_page() -> PageFiles:
    """Return the files of the installed package; they do not change while a server runs."""
    contents = {path.relative_to(_STATIC).as_posix(): path.read_bytes() for path in sorted(_paths())}
    version = _digest(repr(contents).encode())
    entry = contents.pop(_ENTRY).replace(_MODULES, _preloading(contents)).replace(_VERSION, version.encode())
    return PageFiles(version, _file(_ENTRY, entry), {name: _file(name, content) for name, content in contents.items()})


def _preloading(names: Iterable[str]) -> bytes:
    """Return preload links for the modules that the page starts with, so that the browser fetches them at once."""
    modules = [name for name in names if name.endswith(".js") and name not in _LATER]
    return "\n  ".join(f'<link rel="modulepreload" href="page/{{{{version}}}}/{name}">' for name in modules).encode()


def _paths() -> list[Path]:
    return [path for path in _STATIC.rglob("*") if path.suffix in _MEDIA_TYPES]


def _file(name: str, content: bytes) -> PageFile:
    media_type, etag = _MEDIA_TYPES[Path(name).suffix], f'W/"{_digest(content)}"'
    return PageFile(content, gzip.compress(content, mtime=0), media_type, etag)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_DIGITS]


_PARTS = "/page/"
_API = "/docs"
_METHODS = ("GET", "HEAD")
_FOR_EVER = "public, max-age=31536000, immutable"
_ASK_EACH_TIME = "no-cache"

# Nothing from elsewhere, nothing inline, no HTML from strings but what DOMPurify made: an answer of a model that gets
# past the page's own code can still neither run nor load nor send anything.
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "font-src 'self'",
        "manifest-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types dompurify",
    )
)
_HEADERS = MappingProxyType(
    {
        "Content-Security-Policy": _POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Vary": "Accept-Encoding",
    }
)


def create_router(document: Callable[[], Mapping[str, object]]) -> APIRouter:
    """Return the routes. GET ``/`` returns the page for any Accept header; POST is the legacy API's.

    Args:
        document: makes the document of ``/openapi.json``.
    """
    router = APIRouter()
    page = read_page()

    @cache
    def api_page() -> PageFile:
        return _file(_ENTRY, render(document(), page.version).encode())

    @router.api_route("/", methods=list(_METHODS), include_in_schema=False)
    async def entry(request: Request) -> Response:
        """Return the page, which is asked for each time so that it is never an old one."""
        return _reply(request, page.entry, _ASK_EACH_TIME)

    @router.api_route(_API, methods=list(_METHODS), include_in_schema=False)
    async def api(request: Request) -> Response:
        """Return the page of the API."""
        return _reply(request, api_page(), _ASK_EACH_TIME)

    @router.api_route(_API + "/", methods=list(_METHODS), include_in_schema=False)
    async def api_with_slash() -> Response:
        """Send the browser to the address from which the page's links are right, also below a proxy's prefix."""
        return RedirectResponse(".." + _API, 308)

    @router.api_route(_PARTS + "{version}/{name:path}", methods=list(_METHODS), include_in_schema=False)
    async def part(request: Request, version: str, name: str) -> Response:
        """Return a file of the page of this version."""
        if version != page.version or name not in page.parts:
            raise HTTPException(404)
        return _reply(request, page.parts[name], _FOR_EVER)

    return router


def is_page(scope: Scope) -> bool:
    """Return whether a request is for a page or a file of it, which are no secret."""
    return scope["method"] in _METHODS and (
        scope["path"] in ("/", _API, _API + "/") or scope["path"].startswith(_PARTS)
    )


def _reply(request: Request, file: PageFile, cache: str) -> Response:
    headers = {**_HEADERS, "Cache-Control": cache, "ETag": file.etag}
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    packs = "gzip" in request.headers.get("accept-encoding", "")
    packing = {"Content-Encoding": "gzip"} if packs else {}
    content = file.packed if packs else file.content
    return Response(content, media_type=file.media_type, headers={**headers, **packing})
