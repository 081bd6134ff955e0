"""One end of the engine's pipe does not read: nobody is blocked by it, and nothing is lost."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from glmserve.engine.client.client import EngineClient
from glmserve.engine.config import Device, EngineConfig
from glmserve.engine.params import SamplingParams

LONG = tuple(3 + i % 200 for i in range(2000))
ONE = SamplingParams(max_tokens=1, ignore_eos=True)
SCORED = SamplingParams(max_tokens=200, ignore_eos=True, logprobs=20)


@pytest.fixture
async def engine(tiny_gguf: Path) -> AsyncIterator[EngineClient]:
    engine = EngineClient(EngineConfig(tiny_gguf, context_length=2048, device=Device.CPU))
    await engine.start()
    await engine.wait_ready(60)
    yield engine
    await engine.stop()


async def test_requests_for_an_engine_that_does_not_read_block_nobody_and_are_answered_later(
    engine: EngineClient,
) -> None:
    """They are three times what a pipe holds."""
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGSTOP)
    streams = [await engine.submit(LONG, ONE) for _ in range(40)]  # for ever, where one is blocked
    os.kill(engine.pid, signal.SIGCONT)
    for stream in streams:
        assert [len(output.token_ids) async for output in stream] == [1]


async def test_a_server_that_does_not_read_for_a_while_loses_nothing(engine: EngineClient) -> None:
    streams = [await engine.submit((5, 6, number), SCORED) for number in range(4)]
    await asyncio.sleep(0.1)
    time.sleep(1)
    for stream in streams:
        assert len([token async for output in stream for token in output.token_ids]) == 200
    assert engine.restarts_total == 0
