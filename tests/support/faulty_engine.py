"""An engine whose processes fail as ``tests.support.faults`` is told to."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from typing_extensions import Unpack

from glmserve.engine.client.client import EngineClient
from glmserve.engine.config import Device, EngineConfig
from tests.support.changes import EngineChanges
from tests.support.faults import load_faulty


class Start(Protocol):
    """Starts an engine on a model file, or on the embedded model."""

    def __call__(
        self, path: Path = ..., **changes: Unpack[EngineChanges]
    ) -> AbstractAsyncContextManager[EngineClient]: ...


@asynccontextmanager
async def faulty_engine(path: Path, **changes: Unpack[EngineChanges]) -> AsyncIterator[EngineClient]:
    """Yield an engine that is ready, with ``changes`` of its configuration, and stop it."""
    usual = EngineConfig(path, context_length=2048, device=Device.CPU, restart_wait=60.0)
    engine = EngineClient(replace(usual, **changes), load_faulty)
    await engine.start()
    try:
        await engine.wait_ready(60)
        yield engine
    finally:
        await engine.stop()
