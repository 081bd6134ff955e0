"""GET / for browsers: the page, and below ``/page`` the files that it loads."""

from types import MappingProxyType

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import Scope

from glmserve.page.files import PageFile, read_page

_PARTS = "/page/"
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


def create_router() -> APIRouter:
    """Return the routes. GET ``/`` returns the page for any Accept header; POST is the legacy API's."""
    router = APIRouter()
    page = read_page()

    @router.api_route("/", methods=list(_METHODS), include_in_schema=False)
    async def entry(request: Request) -> Response:
        """Return the page, which is asked for each time so that it is never an old one."""
        return _reply(request, page.entry, _ASK_EACH_TIME)

    @router.api_route(_PARTS + "{version}/{name:path}", methods=list(_METHODS), include_in_schema=False)
    async def part(request: Request, version: str, name: str) -> Response:
        """Return a file of the page of this version."""
        if version != page.version or name not in page.parts:
            raise HTTPException(404)
        return _reply(request, page.parts[name], _FOR_EVER)

    return router


def is_page(scope: Scope) -> bool:
    """Return whether a request is for the page or a file of it, which are no secret."""
    return scope["method"] in _METHODS and (scope["path"] == "/" or scope["path"].startswith(_PARTS))


def _reply(request: Request, file: PageFile, cache: str) -> Response:
    headers = {**_HEADERS, "Cache-Control": cache, "ETag": file.etag}
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    packs = "gzip" in request.headers.get("accept-encoding", "")
    packing = {"Content-Encoding": "gzip"} if packs else {}
    content = file.packed if packs else file.content
    return Response(content, media_type=file.media_type, headers={**headers, **packing})
