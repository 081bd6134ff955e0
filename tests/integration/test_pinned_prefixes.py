"""Pinned prefixes with real llama.cpp: as fast after a restart as before it, and never the wrong state."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import httpx
import pytest

from glmserve.chat.prompts.formats import common_beginning, prompt_format
from glmserve.chat.prompts.messages import Message, Role
from glmserve.chat.tokenizer.llama_tokenizer import LlamaTokenizer, load_tokenizer
from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from glmserve.engine.client.client import EngineClient
from glmserve.engine.config import Adapter, Device, EngineConfig
from glmserve.engine.gguf.gguf_check import check_gguf
from glmserve.engine.interface import EngineState
from glmserve.engine.llama.runner import LlamaModelRunner
from glmserve.engine.messages import Pin
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.batch import BatchItem
from glmserve.engine.sequence import Sequence
from tests.conftest import running_server
from tests.support.chatglm2_checkpoint import SMALL, make_weights, write_checkpoint
from tests.support.slow_callers import wait_until
from tests.support.tuned_checkpoint import make_lora, tensors_of, write_adapter, write_prefix_folder

FEW_SHOT = "判断句子的情感。\n" + "句子：今天很高兴。\n情感：积极\n句子：这里太吵了。\n情感：消极\n" * 12 + "句子："
FORMAT = prompt_format("chatglm2")
QUESTIONS = ("服务很差。", "电影很好看。", "谢谢你的帮助。")
"""In their answers each token is ahead of the next best by 0.6 or more; sums in another order move it by 0.1."""


@pytest.fixture(scope="module")
def tokenizer(tiny_gguf: Path) -> LlamaTokenizer:
    return load_tokenizer(tiny_gguf)


@pytest.fixture(scope="module")
def beginning(tokenizer: LlamaTokenizer) -> tuple[int, ...]:
    ids = common_beginning((Message(Role.USER, FEW_SHOT),), FORMAT, tokenizer)
    assert 200 < len(ids) < 1000
    return ids


@pytest.fixture
def config(tiny_gguf: Path, tmp_path: Path) -> EngineConfig:
    # A copy, as it is changed.
    model = tmp_path / "model.gguf"
    model.write_bytes(tiny_gguf.read_bytes())
    return EngineConfig(
        model, context_length=1024, parallel=4, threads=1, device=Device.CPU, pinned_cells=1024,
        state_dir=tmp_path / "states",
    )  # fmt: skip


@contextlib.asynccontextmanager
async def _running(config: EngineConfig, *pins: tuple[tuple[int, ...], str]) -> AsyncIterator[EngineClient]:
    engine = EngineClient(config)
    await engine.start()
    await engine.wait_ready(60)
    for ids, adapter in pins:
        engine.pin(Pin(ids, adapter))
    yield engine
    await engine.stop()


async def _pinned(engine: EngineClient, count: int = 1) -> tuple[int, int]:
    """Wait until ``count`` are in the cache; how many of them were restored, and how many computed."""
    for _ in range(2000):
        stats = engine.stats
        if stats.pins_restored + stats.pins_computed == count:
            return stats.pins_restored, stats.pins_computed
        await asyncio.sleep(0.01)
    raise AssertionError(f"nothing was pinned: {stats}")


def _says(log: Path, text: str) -> bool:
    return text in log.read_text("utf-8")


async def _ask(engine: EngineClient, prompt: tuple[int, ...], adapter: str = "") -> tuple[list[int], int]:
    ids: list[int] = []
    async for output in await engine.submit(prompt, SamplingParams(max_tokens=12, temperature=0.0), adapter):
        ids += output.token_ids
    return ids, output.cached_tokens


async def _ask_all(engine: EngineClient, tokenizer: LlamaTokenizer) -> tuple[list[list[int]], int]:
    """The answers, and how much of the first prompt was cached."""
    prompts = [FORMAT.encode([Message(Role.USER, FEW_SHOT + question)], tokenizer) for question in QUESTIONS]
    answers = [await _ask(engine, prompt) for prompt in prompts]
    return [ids for ids, _ in answers], answers[0][1]


def _state(config: EngineConfig) -> Path:
    assert config.state_dir is not None
    (file,) = config.state_dir.iterdir()
    return file


async def test_after_a_restart_the_first_request_finds_the_prefix_and_is_answered_as_alone(
    config: EngineConfig, tokenizer: LlamaTokenizer, beginning: tuple[int, ...]
) -> None:
    async with _running(replace(config, state_dir=None)) as engine:
        alone, cached = await _ask_all(engine, tokenizer)
        assert cached == 0
    for restored in (0, 1):
        async with _running(config, (beginning, "")) as engine:
            assert await _pinned(engine) == (restored, 1 - restored)
            assert await _ask_all(engine, tokenizer) == (alone, len(beginning))


def test_what_a_restored_slot_holds_is_bit_for_bit_what_was_computed(
    config: EngineConfig, beginning: tuple[int, ...]
) -> None:
    def put(runner: LlamaModelRunner, slot: int) -> None:
        sequence = Sequence(1, beginning, SamplingParams(max_tokens=1), 1, pinned=True)
        for start in range(0, len(beginning), 100):
            runner.decode((BatchItem(sequence, slot, start, beginning[start : start + 100], False),))

    facts = check_gguf(config.model_path)
    first, second = LlamaModelRunner(config, facts), LlamaModelRunner(config, facts)
    put(first, 3)
    state = first.read_state(3)
    put(second, 0)  # so that the restored one lies elsewhere
    assert second.write_state(5, state)
    assert without_slot_numbers(second.read_state(5), len(beginning)) == without_slot_numbers(state, len(beginning))
    for runner in (first, second):
        runner.close()


def without_slot_numbers(state: bytearray, cells: int) -> bytes:
    """The state after its table of cells, as ``kv_prefix.patch_state`` describes the layout."""
    return bytes(state[16 + 12 * cells :])


async def test_a_killed_engine_has_its_prefix_back_before_the_next_request(
    config: EngineConfig, tokenizer: LlamaTokenizer, beginning: tuple[int, ...]
) -> None:
    folder = config.state_dir
    assert folder is not None
    async with _running(config, (beginning, "")) as engine:
        await _pinned(engine)
        before = await _ask_all(engine, tokenizer)
        while not list(folder.glob("*.state")):
            await asyncio.sleep(0.01)
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGKILL)
        while engine.status.state is EngineState.READY:
            await asyncio.sleep(0.01)
        assert await _ask_all(engine, tokenizer) == before
        assert await _pinned(engine) == (1, 0)


async def test_a_state_that_does_not_fit_is_computed_again_and_replaced(
    config: EngineConfig, tokenizer: LlamaTokenizer, beginning: tuple[int, ...]
) -> None:
    async with _running(config, (beginning, "")) as engine:
        await _pinned(engine)
        answers = await _ask_all(engine, tokenizer)
    file = _state(config)
    good = file.read_bytes()
    file.write_bytes(good[:5000] + bytes(1000) + good[6000:])
    async with _running(config, (beginning, "")) as engine:
        assert await _pinned(engine) == (0, 1)
        assert await _ask_all(engine, tokenizer) == answers
    assert len(file.read_bytes()) == len(good)
    async with _running(config, (beginning, "")) as engine:
        assert await _pinned(engine) == (1, 0)
    os.utime(config.model_path, (1, 1))  # as one that was replaced
    async with _running(config, (beginning, "")) as engine:
        assert await _pinned(engine) == (0, 1)


async def test_an_engine_whose_steps_are_smaller_than_its_slots_are_many_loads(
    config: EngineConfig, beginning: tuple[int, ...]
) -> None:
    """llama.cpp aborts on a context with fewer tokens in a batch than sequences."""
    async with _running(replace(config, batch_size=8), (beginning, "")) as engine:
        assert await _pinned(engine) == (0, 1)


async def test_a_folder_that_cannot_be_written_costs_time_and_nothing_else(
    config: EngineConfig, tokenizer: LlamaTokenizer, beginning: tuple[int, ...]
) -> None:
    assert config.state_dir is not None
    config.state_dir.write_text("not a folder")
    async with _running(config, (beginning, "")) as engine:
        assert await _pinned(engine) == (0, 1)
        assert (await _ask_all(engine, tokenizer))[1] == len(beginning)


async def test_each_tuned_adapter_has_its_own_state(tmp_path: Path) -> None:
    weights = make_weights(SMALL, 9)
    folder = write_checkpoint(tmp_path / "hf", SMALL, weights)
    adapter = write_adapter(tmp_path / "lora", make_lora(weights))
    prefix = write_prefix_folder(tmp_path / "prefix", tensors_of(16, projection=False))
    for source, name in ((folder, "m"), (adapter, "lora"), (prefix, "prefix")):
        convert_checkpoint(source, tmp_path / f"{name}.gguf", QuantType.F32)
    adapters = (Adapter("lora", lora=tmp_path / "lora.gguf"), Adapter("prefix", prefix=tmp_path / "prefix.gguf"))
    config = EngineConfig(
        tmp_path / "m.gguf", context_length=256, parallel=4, threads=1, device=Device.CPU, adapters=adapters,
        pinned_cells=300, state_dir=tmp_path / "states",
    )  # fmt: skip
    ids = tuple(range(100, 160))
    names = ("", "lora", "prefix")
    answers = []
    for restored in (0, 3):
        async with _running(config, *((ids, name) for name in names)) as engine:
            assert await _pinned(engine, 3) == (restored, 3 - restored)
            answers.append([await _ask(engine, (*ids, 7, 8), name) for name in names])
    assert answers[0] == answers[1]
    assert [cached for _, cached in answers[0]] == [len(ids)] * 3
    assert len({tuple(answer) for answer, _ in answers[0]}) == 3


def test_a_server_reads_its_pinned_file_and_finds_the_prompt_after_a_restart(tiny_gguf: Path, tmp_path: Path) -> None:
    file = tmp_path / "few-shot.txt"
    file.write_text(FEW_SHOT, "utf-8")
    body = {"messages": [{"role": "user", "content": FEW_SHOT + QUESTIONS[0]}], "temperature": 0, "max_tokens": 12}
    answers = []
    for run, is_pinned in (("first", "was computed"), ("second", "was loaded from disk")):
        arguments = (str(tiny_gguf), "--pin", str(file), "--cache-dir", str(tmp_path), "--device", "cpu")
        log = tmp_path / f"{run}.log"
        with running_server(*arguments, log=log) as (url, _):
            # A server answers while it computes its pins; on a busy machine 384 of the 396 tokens were there.
            wait_until(partial(_says, log, is_pinned), "nothing was pinned")
            reply = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=30).json()
        usage = reply["usage"]
        assert usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"] < 20
        answers.append(reply["choices"][0]["message"]["content"])
    assert answers[0] == answers[1]
