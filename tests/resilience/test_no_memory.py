"""There is not enough memory for the model: one line says so, and the server lives."""

import resource
from pathlib import Path

import pytest

from glmserve.engine.client.client import EngineClient
from glmserve.engine.config import Device, EngineConfig
from glmserve.engine.embedding.core import EmbeddingRunner
from glmserve.engine.errors import ModelLoadError
from glmserve.engine.model_runner import ModelRunner
from glmserve.engine.worker.entry import RunnerFactory, load_llama

CACHE = 1 << 20
"""Tokens, which take 512 MB."""


def _load_within(spare: int, config: EngineConfig) -> ModelRunner | EmbeddingRunner:
    """Load with ``spare`` bytes more than are mapped now. Runs in the engine process."""
    import llama_cpp  # noqa: F401
    import llguidance  # noqa: F401

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + spare
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    return load_llama(config)


def load_without_room_for_the_file(config: EngineConfig) -> ModelRunner | EmbeddingRunner:
    return _load_within(4 << 20, config)


def load_without_room_for_the_cache(config: EngineConfig) -> ModelRunner | EmbeddingRunner:
    return _load_within(256 << 20, config)


@pytest.mark.parametrize(
    ("load", "says"),
    [
        (load_without_room_for_the_file, r"chatglm2-tiny\.gguf"),
        (load_without_room_for_the_cache, f"no memory for a cache of {CACHE} tokens; lower --context"),
    ],
)
async def test_a_model_that_finds_no_memory_is_one_clear_error(tiny_gguf: Path, load: RunnerFactory, says: str) -> None:
    engine = EngineClient(EngineConfig(tiny_gguf, device=Device.CPU, cache_cells=CACHE), load=load)
    await engine.start()
    with pytest.raises(ModelLoadError, match=says):
        await engine.wait_ready(60)
    await engine.stop()
