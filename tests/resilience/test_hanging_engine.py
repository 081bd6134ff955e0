"""The engine process is there and does nothing: it is noticed in bounded time, and ends like a death."""

import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from unittest.mock import patch

import httpx
import pytest

from glmserve.engine.client.client import EngineClient
from glmserve.engine.config import Device, EngineConfig
from glmserve.engine.embedding.core import EmbeddingRunner
from glmserve.engine.errors import EngineDied
from glmserve.engine.model_runner import ModelRunner
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.batch import BatchItem
from glmserve.engine.worker.entry import load_llama
from tests.conftest import running_server
from tests.support.processes import engine_pid

PROMPT = (5, 6, 7, 8)
BAD_TOKEN = 9
THREE = SamplingParams(max_tokens=3, ignore_eos=True)


def _load_with_a_step_that_never_ends(config: EngineConfig) -> ModelRunner | EmbeddingRunner:
    """The real runner, which hangs over one token. Runs in the engine process."""
    runner = load_llama(config)
    assert not isinstance(runner, EmbeddingRunner)
    decode = runner.decode

    def hangs(items: tuple[BatchItem, ...]) -> None:
        if any(BAD_TOKEN in item.ids for item in items):
            time.sleep(3600)
        decode(items)

    patch.object(runner, "decode", hangs).start()
    return runner


@pytest.fixture
async def engine(tiny_gguf: Path) -> AsyncIterator[EngineClient]:
    config = EngineConfig(tiny_gguf, context_length=2048, device=Device.CPU, step_timeout=3.0)
    engine = EngineClient(config, load=_load_with_a_step_that_never_ends)
    await engine.start()
    await engine.wait_ready(60)
    yield engine
    await engine.stop()


async def test_a_step_that_never_ends_is_ended_and_the_next_request_answered(engine: EngineClient) -> None:
    beside = await engine.submit(PROMPT, SamplingParams(max_tokens=1900, ignore_eos=True))
    await anext(beside)
    hanging = await engine.submit((*PROMPT, BAD_TOKEN), THREE)
    for stream in (beside, hanging):
        with pytest.raises(EngineDied, match=r"did not end a step within 3 s"):
            async for _ in stream:
                pass
    assert [output async for output in await engine.submit(PROMPT, THREE)]
    assert engine.restarts_total == 1


async def test_a_process_that_was_stopped_while_it_had_nothing_to_do_is_noticed_by_the_next_request(
    engine: EngineClient,
) -> None:
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGSTOP)
    with pytest.raises(EngineDied, match="step"):
        async for _ in await engine.submit(PROMPT, THREE):
            pass
    assert [output async for output in await engine.submit(PROMPT, THREE)]


def test_over_http_the_caller_is_told_and_the_next_one_is_answered(tiny_gguf: Path, tmp_path: Path) -> None:
    with running_server(str(tiny_gguf), "--step-timeout", "3", log=tmp_path / "log") as (url, server):
        os.kill(engine_pid(server.pid), signal.SIGSTOP)
        ask = {"messages": [{"role": "user", "content": "你好"}], "max_tokens": 5}
        lost = httpx.post(f"{url}/v1/chat/completions", json=ask, timeout=30)
        assert (lost.status_code, lost.json()["error"]["code"]) == (503, "engine_died")
        assert "Retry-After" in lost.headers
        assert httpx.post(f"{url}/v1/chat/completions", json=ask, timeout=30).status_code == 200
    assert "did not end a step within 3 s (--step-timeout) and was killed; 1 requests were lost" in (
        tmp_path / "log"
    ).read_text("utf-8")
