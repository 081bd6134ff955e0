"""The application: routers, handlers and the life of the models, put together."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from operator import eq, ne

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException
from starlette.types import Scope

from glmserve.api import load, ops
from glmserve.api.anthropic import router as anthropic
from glmserve.api.anthropic.response import failure
from glmserve.api.openai import batches, embeddings, files, models, tasks, tokenize
from glmserve.api.openai.chat_completions import router as chat
from glmserve.api.openai.completions import router as completions
from glmserve.api.openai.rerank import router as rerank
from glmserve.api.openai.responses import router as responses
from glmserve.api.openai.responses.response_store import ResponseStore
from glmserve.api.openai.responses.router import ResponsesService
from glmserve.batches.answering import LineAnswers
from glmserve.batches.input_lines import ENDPOINTS
from glmserve.batches.service import BatchOptions, BatchService
from glmserve.chat.prompts.messages import PromptError
from glmserve.chat.tasks.task import Task
from glmserve.chat.tools.types import ToolError
from glmserve.compat import legacy
from glmserve.engine.errors import EngineError
from glmserve.http.api_keys import ApiKeyStore
from glmserve.http.error_replies import ErrorRenderer, ServerErrorMiddleware
from glmserve.http.errors import AddressNotFound, ApiError
from glmserve.http.middleware.addresses import Addresses, ResolveAddress
from glmserve.http.middleware.auth import Authorization
from glmserve.http.middleware.cross_origin import CrossOrigin, CrossSiteGuard
from glmserve.http.middleware.rate_limit import RateLimit
from glmserve.http.middleware.request_limits import BodyLimit, Shedding, TimeLimit
from glmserve.http.middleware.request_log import AccessLog, IgnoredFields, Spans, SpanWriter
from glmserve.http.openapi import Tag, openapi_of
from glmserve.http.origins import LOCAL, Origins
from glmserve.http.request_record import Limits, RequestIds, RequestRecord
from glmserve.model_pool.registry import ModelRegistry
from glmserve.observability.collectors import BatchMetrics, EngineMetrics, MetricsMiddleware, RequestMetrics
from glmserve.page import router as page


@dataclass(frozen=True, slots=True)
class ApiOptions:
    """Options of the API, apart from the models."""

    max_body_bytes: int = 8 * 2**20
    cors_origins: tuple[str, ...] = (LOCAL,)
    """Origins whose pages may call the API from a browser."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names of the server besides the local ones; "*" allows any."""
    on_loopback: bool = False
    """It listens on this machine alone, so that it has no other names unless they were allowed."""
    share_prefixes: bool = False
    """Let callers with different keys share the whole prefix cache."""
    public_metrics: bool = False
    """Answer /metrics without a key."""
    max_responses: int = 1000
    """Number of stored responses usable as previous_response_id."""
    max_response_bytes: int = 64 * 10**6
    """Maximum total size of stored responses in bytes."""
    tasks: Mapping[str, Task] = field(default_factory=dict)
    """The stored prompts."""
    keys: ApiKeyStore = field(default_factory=lambda: ApiKeyStore(()))
    limits: Limits = field(default_factory=Limits)
    """Limits of clients without a key, if no keys are set."""
    request_timeout: float = 0.0
    """Seconds that a request may take; 0 is any number."""
    access_log: bool = False
    """Log a line for each request."""
    log_prompts: bool = False
    """Log the text of prompts and answers."""
    spans: SpanWriter | None = None
    """Gets each request for an answer, and is closed when the server ends."""
    strict_fields: bool = False
    """Reject fields that are not known, in place of leaving them out."""
    legacy_room: bool = True
    """Whether answers of the legacy addresses may pass max_length where the prompt fills it."""
    batches: BatchOptions | None = None
    """Where batches are kept; None serves none."""
    page: bool = True
    """Whether browsers get the chat page at ``/`` and the API's at ``/docs``."""


def create_app(
    registry: ModelRegistry,
    options: ApiOptions | None = None,
    clock: Callable[[], datetime] = datetime.now,
) -> FastAPI:
    """Return the application that serves ``registry``; its lifespan loads the models and stops them.

    Args:
        registry: the models, not started.
        options: limits; the defaults where not given.
        clock: the local time, for the legacy replies.
    """
    options = options or ApiOptions()
    # FastAPI's own documentation pages load their scripts from elsewhere.
    app = FastAPI(title="glmserve", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    metrics = CollectorRegistry()
    request_metrics = RequestMetrics(metrics)
    renderer = _renderer(clock)
    metrics.register(EngineMetrics(registry))
    app.openapi = lambda: openapi_of(app, _routes(routers), needs_key=bool(options.keys))  # type: ignore[method-assign]
    pages = (page.create_router(app.openapi),) if options.page else ()
    answering = _answering(registry, options)
    service = _batches(options, answering, renderer, request_metrics)
    if service is not None:
        metrics.register(BatchMetrics(lambda: service.runner.backlog))
    routers = (*_routers(registry, options, clock, metrics), *answering, *_batch_routers(service), *pages)
    app.router.lifespan_context = _lifespan(registry, options.spans, service)
    _include(app, routers)
    addresses = Addresses(("/openapi.json", *(route.path for route in _routes(routers))))
    _handle_errors(app, renderer, addresses)
    generating = _generating(routers)
    _limit_bodies(app, options)
    app.add_middleware(Shedding, paths=generating, check_room=registry.check_room, renderer=renderer)
    app.add_middleware(IgnoredFields, strict=options.strict_fields)
    _protect(app, options, renderer)
    app.add_middleware(MetricsMiddleware, request_metrics=request_metrics, generating=generating)
    if options.spans is not None:
        app.add_middleware(Spans, writer=options.spans, generating=generating)
    app.add_middleware(ResolveAddress, addresses=addresses)
    _identify(app, options)
    return app


def _include(app: FastAPI, routers: Iterable[APIRouter]) -> None:
    for router in routers:
        app.include_router(router)
    app.add_api_route("/openapi.json", lambda: JSONResponse(app.openapi()), include_in_schema=False)


def _identify(app: FastAPI, options: ApiOptions) -> None:
    """Add the outermost middleware: each request gets an id, and a line in the log if wanted."""
    if options.access_log:
        app.add_middleware(AccessLog)
    app.add_middleware(RequestIds, log_texts=options.log_prompts)


def _limit_bodies(app: FastAPI, options: ApiOptions) -> None:
    app.add_middleware(BodyLimit, limit=options.max_body_bytes, applies=partial(ne, files.PATH))
    if options.batches is not None:
        most = options.batches.most_file_bytes + options.max_body_bytes
        app.add_middleware(BodyLimit, limit=most, applies=partial(eq, files.PATH))


def _routers(
    registry: ModelRegistry, options: ApiOptions, clock: Callable[[], datetime], metrics: CollectorRegistry
) -> tuple[APIRouter, ...]:
    """Return the routes beside ``_answering`` and ``_batch_routers``."""
    return (
        rerank.create_router(registry),
        tokenize.create_router(registry),
        tasks.create_router(options.tasks),
        models.create_router(registry),
        anthropic.create_router(registry),
        ops.create_router(registry, metrics),
        load.create_router(registry),
        legacy.create_router(registry, clock, keep_room=options.legacy_room),
    )


def _answering(registry: ModelRegistry, options: ApiOptions) -> tuple[APIRouter, ...]:
    """Return the routes that the lines of a batch may use."""
    stored = ResponseStore(options.max_responses, options.max_response_bytes)
    return (
        chat.create_router(registry),
        completions.create_router(registry),
        embeddings.create_router(registry),
        responses.create_router(ResponsesService(registry, stored, options.tasks)),
    )


def _batches(
    options: ApiOptions,
    routers: Iterable[APIRouter],
    renderer: ErrorRenderer,
    request_metrics: RequestMetrics,
) -> BatchService | None:
    """Return the batches, whose lines are requests to ``routers`` in this process."""
    if options.batches is None:
        return None
    lines = FastAPI(openapi_url=None)
    for router in routers:
        lines.include_router(router)
    _handle_errors(lines, renderer, Addresses(ENDPOINTS))
    lines.add_middleware(IgnoredFields, strict=options.strict_fields)
    lines.add_middleware(ServerErrorMiddleware, renderer=renderer)

    def record_of(owner: str) -> RequestRecord:
        prefix_owner = "" if options.share_prefixes else owner
        return RequestRecord(key=owner, prefix_owner=prefix_owner, log_texts=options.log_prompts, background=True)

    answers = LineAnswers(lines, record_of, request_metrics.batch_line)
    return BatchService(options.batches, answers, options.keys.knows)


def _batch_routers(service: BatchService | None) -> tuple[APIRouter, ...]:
    return () if service is None else (files.create_router(service), batches.create_router(service))


def _protect(app: FastAPI, options: ApiOptions, renderer: ErrorRenderer) -> None:
    """Add the middleware that may reject or end a request early, the innermost first."""
    if options.request_timeout:
        app.add_middleware(TimeLimit, seconds=options.request_timeout, renderer=renderer)
    if options.keys or options.limits != Limits():
        app.add_middleware(RateLimit, limits=options.limits, renderer=renderer)
    if options.keys:
        app.add_middleware(
            Authorization,
            keys=options.keys,
            renderer=renderer,
            public=partial(_needs_no_key, options),
            share_prefixes=options.share_prefixes,
        )
    origins = Origins(options.cors_origins, options.allowed_hosts)
    if not options.keys:
        app.add_middleware(
            CrossSiteGuard,
            origins=origins,
            hosts=options.allowed_hosts,
            renderer=renderer,
            checks_host=options.on_loopback,
        )
    app.add_middleware(ServerErrorMiddleware, renderer=renderer)
    app.add_middleware(CrossOrigin, origins=origins)


def _needs_no_key(options: ApiOptions, scope: Scope) -> bool:
    """Return whether a request is answered without a key, because nothing that it gets is a secret here."""
    if options.public_metrics and scope["path"] == "/metrics":
        return True
    return options.page and page.is_page(scope)


def _generating(routers: Iterable[APIRouter]) -> frozenset[str]:
    """Return the paths where a POST asks for an answer."""
    return frozenset(route.path for route in _routes(routers) if Tag.GENERATION in route.tags)


def _routes(routers: Iterable[APIRouter]) -> Iterator[APIRoute]:
    return (route for router in routers for route in router.routes if isinstance(route, APIRoute))


def _renderer(clock: Callable[[], datetime]) -> ErrorRenderer:
    """Return the error shapes by address; all other addresses have OpenAI's."""
    old = dict.fromkeys(legacy.PATHS, partial(legacy.failure, clock))
    return ErrorRenderer({**old, anthropic.PATH: failure})


def _handle_errors(app: FastAPI, renderer: ErrorRenderer, addresses: Addresses) -> None:
    for kind in (ApiError, EngineError, PromptError, ToolError, HTTPException):
        app.add_exception_handler(kind, _handler(renderer, addresses))


def _handler(renderer: ErrorRenderer, addresses: Addresses) -> Callable[[Request, Exception], Awaitable[JSONResponse]]:
    async def handle(request: Request, error: Exception) -> JSONResponse:
        if isinstance(error, HTTPException) and error.status_code == 404:
            path = request.scope["path"]
            nearest = addresses.nearest(path)
            hint = f"did you mean {nearest}?" if nearest else "GET /openapi.json lists all addresses"
            error = AddressNotFound(request.method, path, hint)
        return renderer.reply(request.scope, error)

    return handle


def _lifespan(
    registry: ModelRegistry, spans: SpanWriter | None, service: BatchService | None
) -> Callable[[FastAPI], contextlib.AbstractAsyncContextManager[None]]:
    """Return the lifespan: models load beside the server, so that /health can say how it stands."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loading = registry.begin()
        if service is not None:
            service.start()
        try:
            yield
        finally:
            loading.cancel()
            if service is not None:
                await service.stop()
            await asyncio.gather(loading, return_exceptions=True)
            await registry.stop()
            if spans is not None:
                await asyncio.to_thread(spans.close)

    return lifespan
