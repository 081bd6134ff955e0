"""The application: routers, handlers and the life of the models, put together."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from compat import baichuan, chatglm
from server import ops
from server.engine.errors import EngineError
from server.errors import ApiError, describe
from server.middleware import BodyLimit, LastResort
from server.openai import chat, completions, models
from server.prompts.errors import PromptError
from server.registry import ModelRegistry


@dataclass(frozen=True, slots=True)
class ApiOptions:
    """What can be set about the API, apart from the models."""

    max_body_bytes: int = 8 * 2**20


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
    # FastAPI's own documentation pages load their scripts from elsewhere, so there is only the schema.
    app = FastAPI(title="glmserve", docs_url=None, redoc_url=None, lifespan=_lifespan(registry))
    for router in (
        chat.create_router(registry),
        completions.create_router(registry),
        models.create_router(registry),
        ops.create_router(registry),
        chatglm.create_router(registry, clock),
        baichuan.create_router(registry, clock),
    ):
        app.include_router(router)
    for kind in (ApiError, EngineError, PromptError, HTTPException):
        app.add_exception_handler(kind, _reply)
    app.add_middleware(BodyLimit, limit=options.max_body_bytes)
    app.add_middleware(LastResort)
    return app


async def _reply(_: Request, error: Exception) -> JSONResponse:
    reply = describe(error)
    return JSONResponse(reply.envelope(), reply.status, headers=reply.headers())


def _lifespan(registry: ModelRegistry) -> Callable[[FastAPI], contextlib.AbstractAsyncContextManager[None]]:
    """Return the lifespan: models load beside the server, so that /health can say how it stands."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(registry.start())
        try:
            yield
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
            await registry.stop()

    return lifespan
