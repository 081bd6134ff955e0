"""The engine on a model whose attention is biased by distance: cells are shared and batched as with any other."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from glmserve.engine.client.client import EngineClient
from glmserve.engine.config import Device, EngineConfig
from glmserve.engine.gguf.gguf_check import check_gguf
from glmserve.engine.params import SamplingParams
from tests.support.baichuan_checkpoint import ALIBI, ROTARY, make_weights, write_checkpoint
from tests.support.native import logits_of

TOKENS = 12


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alibi")
    write_checkpoint(folder / "hf", ALIBI, make_weights(ALIBI, 1))
    convert_checkpoint(folder / "hf", folder / "m.gguf", QuantType.F32)
    return folder / "m.gguf"


@pytest.fixture(scope="module")
async def engine(gguf: Path) -> AsyncIterator[EngineClient]:
    engine = EngineClient(EngineConfig(gguf, context_length=512, parallel=8, device=Device.CPU))
    await engine.start()
    await engine.wait_ready(60)
    yield engine
    await engine.stop()


def prompts() -> list[tuple[int, ...]]:
    rng = np.random.Generator(np.random.PCG64(3))
    prefix = tuple(int(i) for i in rng.integers(3, 400, size=200))
    return [(*prefix, *(int(i) for i in rng.integers(3, 400, size=10 + 5 * n))) for n in range(8)]


async def answer(engine: EngineClient, prompt: tuple[int, ...]) -> tuple[list[int], int]:
    ids: list[int] = []
    async for output in await engine.submit(
        prompt, SamplingParams(max_tokens=TOKENS, temperature=0.0, ignore_eos=True)
    ):
        ids += output.token_ids
    return ids, output.cached_tokens


async def test_eight_at_once_with_one_prefix_get_what_plain_llama_cpp_computes(
    engine: EngineClient, gguf: Path
) -> None:
    together = await asyncio.gather(*(answer(engine, prompt) for prompt in prompts()))
    assert sum(cached for _, cached in together) >= 7 * 190  # the prefix was computed once
    chains = [(*prompt, *ids) for prompt, (ids, _) in zip(prompts(), together, strict=True)]
    for prompt, chain, logits in zip(prompts(), chains, logits_of(gguf, chains, threads=1), strict=True):
        positions = range(len(prompt) - 1, len(chain) - 1)
        best = logits[positions].max(axis=1)
        chosen = logits[positions, [chain[i + 1] for i in positions]]
        # The cache of the engine is float16, so a near tie may fall otherwise; a wrong bias is off by whole units.
        assert (best - chosen).max() < 0.05


def test_the_file_is_known_to_rotate_nothing_where_it_has_the_layers_of_the_13b_models(
    gguf: Path, tmp_path: Path
) -> None:
    facts = check_gguf(gguf)
    assert (facts.architecture, facts.kv_heads, facts.head_size, facts.rope.dimensions) == ("baichuan", 5, 32, 0)
    write_checkpoint(tmp_path / "hf", ROTARY, make_weights(ROTARY, 1))
    convert_checkpoint(tmp_path / "hf", tmp_path / "m.gguf", QuantType.F16)
    assert check_gguf(tmp_path / "m.gguf").rope.dimensions == 32
