"""An engine whose processes fail as ``tests.support.faults`` is told to."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from glmserve.engine.client.client import EngineClient
from glmserve.engine.config import Device, EngineConfig
from tests.support.faults import load_faulty

Start = Callable[..., AbstractAsyncContextManager[EngineClient]]


@asynccontextmanager
async def faulty_engine(path: Path, **changes: object) -> AsyncIterator[EngineClient]:
    """Yield an engine that is ready, with ``changes`` of its configuration, and stop it."""
    options = {"context_length": 2048, "device": Device.CPU, "restart_wait": 60.0, **changes}
    engine = EngineClient(EngineConfig(path, **options), load_faulty)
    await engine.start()
    try:
        await engine.wait_ready(60)
        yield engine
    finally:
        await engine.stop()
