"""What goes wrong with one request in the real engine is the business of that one: the streams beside it go on."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from glmserve.engine.client.client import EngineClient
from glmserve.engine.config import Device, EngineConfig
from glmserve.engine.errors import DecodeFailed
from glmserve.engine.params import SamplingParams
from tests.support.bert import CLS, SEP, random_bert
from tests.support.faults import VARIABLE, load_faulty
from tests.support.sure_prompts import ALSO_SURE, SURE

PROMPT, OTHER_PROMPT = SURE, ALSO_SURE
GREEDY = SamplingParams(max_tokens=40, ignore_eos=True, temperature=0.0)
GONE = 13
PLAN = f"decode@9=-1,decode@10=1,decode@11=oom,sample@12=error,open_sampler@14=error,decode@{GONE}=-3"
"""Tokens of single bytes, which no answer has."""


@pytest.fixture
async def engine(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[EngineClient]:
    monkeypatch.setenv(VARIABLE, PLAN)
    engine = EngineClient(EngineConfig(tiny_gguf, context_length=2048, device=Device.CPU), load_faulty)
    await engine.start()
    await engine.wait_ready(60)
    yield engine
    await engine.stop()


async def _answer(engine: EngineClient, prompt: tuple[int, ...], params: SamplingParams) -> list[int]:
    return [token for output in [o async for o in await engine.submit(prompt, params)] for token in output.token_ids]


async def test_the_one_to_blame_fails_and_those_beside_it_get_what_they_would_get_alone(engine: EngineClient) -> None:
    prompts = (PROMPT, OTHER_PROMPT)
    alone = [await _answer(engine, prompt, GREEDY) for prompt in prompts]
    streams = [await engine.submit(prompt, GREEDY) for prompt in prompts]
    beside = [list((await anext(stream)).token_ids) for stream in streams]
    for bad, says in (
        (9, "answered -1"),
        (10, "answered 1"),
        (11, "no memory"),
        (12, "on purpose"),
        (14, "on purpose"),
    ):
        with pytest.raises(DecodeFailed, match=says):
            await _answer(engine, (*PROMPT, bad), GREEDY)
    for tokens, stream in zip(beside, streams, strict=True):
        tokens += [token async for output in stream for token in output.token_ids]
    assert beside == alone
    assert engine.restarts_total == 0


async def test_a_device_that_is_gone_costs_some_requests_and_then_the_process(engine: EngineClient) -> None:
    """The third one ends the process, is sent to the next one, and fails there: that counts from the start."""
    for _ in range(3):
        with pytest.raises(DecodeFailed, match="answered -3"):
            await _answer(engine, (*PROMPT, GONE), GREEDY)
    assert await _answer(engine, PROMPT, GREEDY)
    assert engine.restarts_total == 1


async def _failure(engine: EngineClient, inputs: tuple[tuple[int, ...], ...]) -> DecodeFailed:
    with pytest.raises(DecodeFailed) as caught:
        await engine.embed(inputs)
    return caught.value


async def test_an_input_without_a_vector_fails_its_request_and_nobody_else_in_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "embed:1=slow,embed@6=-1")
    engine = EngineClient(EngineConfig(random_bert().write(tmp_path / "bert.gguf"), device=Device.CPU), load_faulty)
    await engine.start()
    try:
        await engine.wait_ready(60)
        good, bad = (CLS, 4, 5, SEP), (CLS, 6, SEP)
        first, ok, failed = await asyncio.gather(
            engine.embed((good,)), engine.embed((good, good)), _failure(engine, (good, bad))
        )
    finally:
        await engine.stop()
    alone, *together = (np.frombuffer(vector, np.float32) for vector in (*first, *ok))
    # Batches of other sizes add up in another order: equal but for the last bits.
    assert all(np.allclose(vector, alone, atol=1e-5) for vector in together)
    assert len(together) == 2
    assert "input 1" in str(failed)
