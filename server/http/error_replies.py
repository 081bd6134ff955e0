"""Error replies: the one table of statuses and codes, OpenAI's format, and the middleware for unhandled exceptions."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType

from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from typing_extensions import TypedDict

from glmserve.chat.prompts.messages import PromptError
from glmserve.chat.tools.types import StrictToolError, ToolError
from glmserve.engine.errors import (
    DecodeFailed,
    EngineDied,
    EngineUnavailable,
    GrammarFailed,
    GrammarRejected,
    ModelLoadError,
    PromptTooLong,
    QueueFull,
    SlowConsumer,
    UnknownToken,
)
from glmserve.http.errors import (
    AddressNotFound,
    ApiError,
    BatchConflict,
    BatchesUnavailable,
    BatchNotFound,
    BodyTooLarge,
    BodyTooSlow,
    ClientDisconnected,
    CrossSiteRejected,
    HeaderFieldsTooLarge,
    HostRejected,
    InvalidKey,
    InvalidRequest,
    MalformedRequest,
    ModelNotFound,
    PreviousResponseNotFound,
    PromptNotFound,
    RateLimited,
    RequestTimedOut,
    ResponseNotFound,
    RouteNotServed,
    ServerBusy,
    StorageFull,
    StoredFileNotFound,
    TextNotHere,
    TextTooLong,
    ThreadNotFound,
    TooManyBatches,
    TooManyConnections,
    UnsupportedEncoding,
    UpstreamDied,
    UpstreamFailed,
    UpstreamRejected,
    UpstreamTimedOut,
    UpstreamUnavailable,
    WrongModelKind,
)
from glmserve.http.request_record import current_request


class ErrorObject(TypedDict):
    """OpenAI's description of an error."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(TypedDict):
    """OpenAI's error reply."""

    error: ErrorObject


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """An error reply, before a dialect gives it its shape."""

    status: int
    type: str
    code: str | None
    message: str
    param: str | None = None
    retry_after: int | None = None
    allow: str | None = None
    """The methods a path does take, where the wrong one was used."""

    def headers(self) -> dict[str, str]:
        """Return the HTTP headers that go with it."""
        headers = {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        if self.allow is not None:
            headers["Allow"] = self.allow
        if self.status == 415:
            headers["Accept-Encoding"] = "identity"
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return headers

    def envelope(self) -> ErrorEnvelope:
        """Return OpenAI's error reply."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


@dataclass(frozen=True, slots=True)
class _Row:
    status: int
    type: str
    code: str
    retry_after: int | None = None


_INTERNAL = _Row(500, "server_error", "internal_error")


THREAD_NOT_FOUND = "thread_not_found"
"""Anthropic's SDKs know this code, and send the whole conversation."""

# A died engine is restarted and its other requests did nothing wrong: trying again is right. A batch that
# llama.cpp rejects would be rejected again.
_TABLE: Mapping[type[Exception], _Row] = MappingProxyType(
    {
        InvalidRequest: _Row(400, "invalid_request_error", "invalid_value"),
        PromptError: _Row(400, "invalid_request_error", "invalid_value"),
        ToolError: _Row(400, "invalid_request_error", "invalid_value"),
        StrictToolError: _Row(400, "invalid_request_error", "unsupported_grammar"),
        TextTooLong: _Row(400, "invalid_request_error", "context_length_exceeded"),
        PromptTooLong: _Row(400, "invalid_request_error", "context_length_exceeded"),
        GrammarRejected: _Row(400, "invalid_request_error", "unsupported_grammar"),
        GrammarFailed: _Row(400, "invalid_request_error", "unsupported_grammar"),
        UnknownToken: _Row(400, "invalid_request_error", "invalid_value"),
        UpstreamRejected: _Row(400, "invalid_request_error", "upstream_rejected"),
        TextNotHere: _Row(400, "invalid_request_error", "tokenizer_not_here"),
        MalformedRequest: _Row(400, "invalid_request_error", "malformed_request"),
        InvalidKey: _Row(401, "invalid_request_error", "invalid_api_key"),
        CrossSiteRejected: _Row(403, "invalid_request_error", "cross_site_request"),
        HostRejected: _Row(403, "invalid_request_error", "host_not_allowed"),
        ModelNotFound: _Row(404, "invalid_request_error", "model_not_found"),
        AddressNotFound: _Row(404, "invalid_request_error", "not_found"),
        WrongModelKind: _Row(400, "invalid_request_error", "wrong_model_kind"),
        RouteNotServed: _Row(404, "invalid_request_error", "route_not_served"),
        PromptNotFound: _Row(404, "invalid_request_error", "prompt_not_found"),
        PreviousResponseNotFound: _Row(400, "invalid_request_error", "previous_response_not_found"),
        ResponseNotFound: _Row(404, "invalid_request_error", "response_not_found"),
        StoredFileNotFound: _Row(404, "invalid_request_error", "file_not_found"),
        BatchNotFound: _Row(404, "invalid_request_error", "batch_not_found"),
        BatchConflict: _Row(409, "invalid_request_error", "batch_conflict"),
        StorageFull: _Row(413, "invalid_request_error", "storage_full"),
        TooManyBatches: _Row(429, "rate_limit_error", "too_many_batches", retry_after=60),
        BatchesUnavailable: _Row(503, "server_error", "batches_unavailable", retry_after=60),
        ThreadNotFound: _Row(404, "invalid_request_error", THREAD_NOT_FOUND),
        SlowConsumer: _Row(408, "invalid_request_error", "reader_too_slow"),
        BodyTooSlow: _Row(408, "invalid_request_error", "body_too_slow"),
        BodyTooLarge: _Row(413, "invalid_request_error", "request_too_large"),
        UnsupportedEncoding: _Row(415, "invalid_request_error", "unsupported_content_encoding"),
        RateLimited: _Row(429, "rate_limit_error", "rate_limit_exceeded"),
        QueueFull: _Row(429, "rate_limit_error", "queue_full"),
        HeaderFieldsTooLarge: _Row(431, "invalid_request_error", "headers_too_large"),
        ClientDisconnected: _Row(499, "client_closed_request", "client_closed_request"),
        DecodeFailed: _Row(500, "server_error", "decode_failed"),
        UpstreamFailed: _Row(502, "server_error", "upstream_failed"),
        UpstreamDied: _Row(502, "server_error", "upstream_died", retry_after=2),
        UpstreamUnavailable: _Row(503, "server_error", "upstream_unavailable"),
        UpstreamTimedOut: _Row(504, "server_error", "upstream_timeout"),
        TooManyConnections: _Row(503, "server_error", "too_many_connections", retry_after=1),
        ServerBusy: _Row(503, "server_error", "server_busy", retry_after=1),
        EngineDied: _Row(503, "server_error", "engine_died", retry_after=2),
        EngineUnavailable: _Row(503, "server_error", "engine_unavailable", retry_after=2),
        ModelLoadError: _Row(503, "server_error", "model_load_failed", retry_after=60),
        RequestTimedOut: _Row(504, "server_error", "request_timeout"),
    }
)


_PARAMS: Mapping[type[Exception], str] = MappingProxyType(
    {
        PromptError: "messages",
        PromptTooLong: "messages",
        UnknownToken: "logit_bias",
        ToolError: "tools",
        StrictToolError: "tools",
    }
)


_RETRIED = (QueueFull, RateLimited, UpstreamRejected, UpstreamUnavailable)
"""Errors that know when it is worth to try again."""


def is_expected(error: Exception) -> bool:
    """Return whether ``error`` has a row of its own; any other is a fault of the server, to be logged."""
    return isinstance(error, HTTPException) or _row(type(error)) is not _INTERNAL


def describe(error: Exception) -> ErrorReply:
    """Return the reply for ``error``; an unexpected one is not described."""
    if isinstance(error, HTTPException):
        return _describe_http(error)
    row = _row(type(error))
    if row is _INTERNAL:
        return ErrorReply(row.status, row.type, row.code, "the server failed to handle this request")
    retry_after = error.retry_after if isinstance(error, _RETRIED) else row.retry_after
    status = error.status if isinstance(error, UpstreamRejected) else row.status
    return ErrorReply(
        status=status,
        type="rate_limit_error" if status == 429 else row.type,
        code=(error.code if isinstance(error, ApiError) else None) or row.code,
        message=str(error),
        param=error.param if isinstance(error, ApiError) else _PARAMS.get(type(error)),
        retry_after=retry_after,
    )


def table() -> Mapping[type[Exception], tuple[int, str, int | None]]:
    """Return status, code and, where it is fixed, Retry-After of each kind of error that has a row."""
    rows: dict[type[Exception], _Row] = {Exception: _INTERNAL, **_TABLE}
    return {kind: (row.status, row.code, row.retry_after) for kind, row in rows.items()}


def status_and_code(kind: type[Exception]) -> tuple[int, str]:
    """Return the status of a kind of error, and its usual code."""
    row = _row(kind)
    return row.status, row.code


@contextmanager
def prompt_in(field: str) -> Iterator[None]:
    """Attribute errors of a prompt to ``field``, where this kind of request has it.

    Raises:
        InvalidRequest: in place of PromptError, PromptTooLong and TextTooLong.
    """
    try:
        yield
    except (PromptError, PromptTooLong, TextTooLong) as error:
        raise InvalidRequest(str(error), param=field, code=_row(type(error)).code) from None


def _row(kind: type[Exception]) -> _Row:
    return next((_TABLE[base] for base in kind.__mro__ if base in _TABLE), _INTERNAL)


def _describe_http(error: HTTPException) -> ErrorReply:
    """Return the reply for an error of routing itself, such as a wrong method."""
    allow = (error.headers or {}).get("Allow")
    code, message = None, str(error.detail)
    if error.status_code == 405:
        code, message = "method_not_allowed", f"this address does not support that method; it supports {allow}"
    kind = "invalid_request_error" if error.status_code < 500 else "server_error"
    return ErrorReply(error.status_code, kind, code, message, allow=allow)


log = logging.getLogger(__name__)

ErrorFormat = Callable[[ErrorReply], Mapping[str, object]]


class ErrorRenderer:
    """The reply to an error, raised by a route or by middleware."""

    def __init__(self, formats: Mapping[str, ErrorFormat]) -> None:
        """``formats`` apply to errors of POST requests to a path and below; all other errors have OpenAI's format."""
        self._formats = formats

    def reply(self, scope: Scope, error: Exception) -> JSONResponse:
        """Return the reply to a request that ended with ``error``; an unexpected one is logged."""
        if not is_expected(error):
            log.error("unhandled error in %s %s", scope["method"], scope["path"], exc_info=error)
        reply = describe(error)
        current_request().rejection = reply.code or ""
        return JSONResponse(self._format(scope)(reply), reply.status, headers=reply.headers())

    def _format(self, scope: Scope) -> ErrorFormat:
        path = scope["path"] if scope["method"] == "POST" else ""
        return next((found for below, found in self._formats.items() if _is_below(path, below)), ErrorReply.envelope)


def _is_below(path: str, own: str) -> bool:
    return path == own or (own != "/" and path.startswith(f"{own}/"))


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
