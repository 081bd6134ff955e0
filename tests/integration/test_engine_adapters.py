"""One engine process, one copy of the weights, four models: the base, a LoRA, a prefix, and both at once."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from glmserve.engine.client.client import EngineClient
from glmserve.engine.config import Adapter, Device, EngineConfig
from glmserve.engine.messages import StepOutput
from glmserve.engine.params import SamplingParams
from tests.reference.numpy_chatglm2 import Prefix, forward
from tests.support.chatglm2_checkpoint import SMALL, Weights, make_weights, write_checkpoint
from tests.support.tuned_checkpoint import (
    ALPHA,
    RANK,
    make_lora,
    meant,
    tensors_of,
    tuned,
    write_adapter,
    write_prefix_folder,
)

SEED = 9
CELLS = 16
GREEDY = SamplingParams(max_tokens=5, temperature=0.0, ignore_eos=True)
PROMPTS = ((5, 99, 300, 17, 42), (5, 99, 300, 17, 42, 8, 7, 111), tuple(range(100, 140)))


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[EngineClient]:
    weights = make_weights(SMALL, SEED)
    folder = write_checkpoint(tmp_path / "hf", SMALL, weights)
    adapter = write_adapter(tmp_path / "lora", make_lora(weights))
    prefix = write_prefix_folder(tmp_path / "prefix", tensors_of(CELLS, projection=False))
    for source, name in ((folder, "m"), (adapter, "lora"), (prefix, "prefix")):
        convert_checkpoint(source, tmp_path / f"{name}.gguf", QuantType.F32)
    lora_file, prefix_file = tmp_path / "lora.gguf", tmp_path / "prefix.gguf"
    adapters = (
        Adapter("lora", lora=lora_file),
        Adapter("prefix", prefix=prefix_file),
        Adapter("both", lora=lora_file, prefix=prefix_file),
    )
    config = EngineConfig(
        tmp_path / "m.gguf", context_length=256, parallel=4, threads=1, device=Device.CPU, adapters=adapters
    )
    engine = EngineClient(config)
    await engine.start()
    await engine.wait_ready(60)
    yield engine
    await engine.stop()


async def ask(engine: EngineClient, prompt: tuple[int, ...], adapter: str) -> list[int]:
    ids: list[int] = []
    async for output in await engine.submit(prompt, GREEDY, adapter):
        assert not output.error
        ids += output.token_ids
    return ids


def greedy(weights: Weights, prompt: tuple[int, ...], prefix: Prefix | None) -> list[int]:
    ids = list(prompt)
    for _ in range(GREEDY.max_tokens):
        ids.append(int(forward(weights, SMALL, ids, prefix=prefix)[-1].argmax()))
    return ids[len(prompt) :]


async def test_all_of_them_answer_at_once_as_numpy_does_for_each(engine: EngineClient) -> None:
    weights = make_weights(SMALL, SEED)
    changed = tuned(weights, make_lora(weights), ALPHA / RANK)
    prefix = meant(tensors_of(CELLS, projection=False))
    models = {"": (weights, None), "lora": (changed, None), "prefix": (weights, prefix), "both": (changed, prefix)}
    asked = [(prompt, adapter) for prompt in PROMPTS for adapter in models]
    expected = [greedy(models[adapter][0], prompt, models[adapter][1]) for prompt, adapter in asked]
    assert len(set(map(tuple, expected))) == len(asked)
    for _ in range(3):  # the second time most of it comes from the cache
        answers = await asyncio.gather(*(ask(engine, prompt, adapter) for prompt, adapter in asked))
        assert answers == expected
    assert engine.info.prefix_tokens == {"lora": 0, "prefix": CELLS, "both": CELLS}


async def test_answers_of_all_adapters_go_on_in_a_fresh_process(engine: EngineClient) -> None:
    params = replace(GREEDY, max_tokens=60)
    names = ("", "lora", "prefix", "both")
    undisturbed = [await _tokens(await engine.submit(PROMPTS[0], params, name)) for name in names]
    streams = [await engine.submit(PROMPTS[0], params, name) for name in names]
    begun = [(await anext(stream)).token_ids for stream in streams]
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGKILL)
    assert [[*first, *await _tokens(stream)] for first, stream in zip(begun, streams, strict=True)] == undisturbed
    assert (engine.restarts_total, engine.resumed_total) == (1, 4)


async def _tokens(outputs: AsyncIterator[StepOutput]) -> list[int]:
    return [token async for output in outputs for token in output.token_ids]
