"""The application on a scripted engine: in process, or on a loopback port for clients that need one."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from datetime import datetime

import httpx
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from glmserve.bootstrap.app import ApiOptions, create_app
from glmserve.http.framing.uvicorn_protocol import bounded_protocol
from glmserve.model_pool.host import ModelHost
from glmserve.model_pool.registry import ModelRegistry
from glmserve.model_pool.served_model import ModelCard, ServedModel
from glmserve.model_pool.task_model import task_models
from tests.support.scripted_engine import ByteTokenizer, ScriptedEngine

MODEL = "chatglm2-tiny"
ALIAS = "THUDM/chatglm2-6b"
NOW = datetime(2023, 7, 25, 9, 47, 0)


def served_model(
    engine: ScriptedEngine, name: str = MODEL, alias: str = ALIAS, prompt_format: str = "chatglm2"
) -> ServedModel:
    card = ModelCard(name, 1_700_000_000, (alias,), prompt_format, fingerprint="fp_1")
    return ServedModel(card, ModelHost(engine, ByteTokenizer))


def make_app(engine: ScriptedEngine, options: ApiOptions | None = None) -> FastAPI:
    models = [served_model(engine)]
    tasks = task_models(models, options.tasks.values() if options else ())
    return create_app(ModelRegistry(models, tasks=tasks), options, clock=lambda: NOW)


@contextlib.asynccontextmanager
async def connect(app: FastAPI, *, loaded: bool = True) -> AsyncIterator[httpx.AsyncClient]:
    """Yield an HTTP client of ``app`` whose lifespan runs; ``loaded`` waits for its models."""
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as http:
            while loaded and (await http.get("/health")).status_code != 200:
                await asyncio.sleep(0.001)
            yield http


@contextlib.contextmanager
def serve(app: ASGIApp, protocol: type[asyncio.Protocol] | None = None) -> Iterator[str]:
    """Yield the address of ``app`` on a real server in a thread."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=2, http=protocol or bounded_protocol())
    )
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        _wait_ready(url)
        yield url
    finally:
        server.should_exit = True
        thread.join(10)


def _wait_ready(url: str) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/health").status_code == 200:
                return
        time.sleep(0.02)
    raise TimeoutError(f"{url} did not become healthy")
