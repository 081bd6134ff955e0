"""Several engines of one model, with llama.cpp: prompts find their prefixes, and the end of one is a pause."""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from typing_extensions import Unpack

from glmserve.chat.tokenizer.llama_tokenizer import LlamaTokenizer
from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from glmserve.engine.client.client import EngineClient
from glmserve.engine.config import Device, EngineConfig
from glmserve.engine.errors import EngineUnavailable, QueueFull
from glmserve.engine.group.division import divide
from glmserve.engine.group.group import EngineGroup
from glmserve.engine.interface import Caller, Engine, EngineState
from glmserve.engine.llama.cpu_topology import list_processors
from glmserve.engine.messages import Pin, StepOutput
from glmserve.engine.params import Grammar, GrammarKind, SamplingParams
from tests.conftest import ROOT
from tests.support.changes import EngineChanges

GREEDY = SamplingParams(max_tokens=60, ignore_eos=True, temperature=0.0)
QUESTIONS = ("晚上睡不着应该怎么办", "你好", "who are you?", "今天天气怎么样")

Start = Callable[..., AbstractAsyncContextManager[EngineGroup]]


@pytest.fixture(scope="module")
def exact_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In F32: quantised, the size of a batch decides between two tokens that are as probable."""
    out = tmp_path_factory.mktemp("exact") / "chatglm2-tiny.gguf"
    convert_checkpoint(ROOT / "models" / "tiny", out, QuantType.F32, None)
    return out


@pytest.fixture
def config(exact_gguf: Path) -> EngineConfig:
    return EngineConfig(exact_gguf, context_length=2048, device=Device.CPU, restart_wait=60.0, speculation=False)


@pytest.fixture
def start(config: EngineConfig) -> Start:
    @asynccontextmanager
    async def start(**changes: Unpack[EngineChanges]) -> AsyncIterator[EngineGroup]:
        group = EngineGroup(divide(replace(config, **changes), 2, list_processors(), ()))
        async with _started(group):
            yield group

    return start


@asynccontextmanager
async def _started(engine: Engine) -> AsyncIterator[None]:
    await engine.start()
    try:
        await engine.wait_ready(120)
        yield
    finally:
        await engine.stop()


async def _answer(engine: Engine, prompt: tuple[int, ...], params: SamplingParams = GREEDY) -> list[int]:
    return [token async for output in await engine.submit(prompt, params) for token in output.token_ids]


async def _chat(engine: Engine, numbers: random.Random, system: tuple[int, ...]) -> None:
    """Four turns; each prompt has the answers before it."""
    prompt = system
    for _ in range(4):
        prompt = (*prompt, *numbers.choices(range(300, 1300), k=60))
        prompt = (*prompt, *await _answer(engine, prompt, replace(GREEDY, max_tokens=16)))


async def _cached_share(engine: Engine) -> float:
    numbers = random.Random(5)
    system = tuple(numbers.choices(range(300, 1300), k=64))
    async with _started(engine):
        await asyncio.gather(*(_chat(engine, random.Random(seed), system) for seed in range(5)))
        # The figures of the last step come with the next one.
        await _answer(engine, system[:8], replace(GREEDY, max_tokens=1))
        stats = engine.stats
    return stats.cached_tokens / stats.prompt_tokens


async def test_conversations_find_as_much_in_the_cache_as_with_one_engine(config: EngineConfig) -> None:
    one = await _cached_share(EngineClient(config))
    two = await _cached_share(EngineGroup(divide(config, 2, list_processors(), ())))
    assert two > one - 0.02
    assert one > 0.6


async def test_all_engines_get_work_and_pins_and_start_again_after_a_stop(start: Start) -> None:
    prefix = tuple(range(300, 400))
    async with start(pinned_cells=200) as group:
        group.pin(Pin(prefix))
        await group.check_grammar(Grammar(GrammarKind.REGEX, "(a|b){3}"), Caller("one"))
        await asyncio.gather(*(_answer(group, tuple(range(500 + 100 * i, 580 + 100 * i))) for i in range(4)))
        for member in group.members:
            await _answer(member, (*prefix, 7), replace(GREEDY, max_tokens=2))
        each = [member.stats for member in group.members]
        assert all(stats.prompt_tokens >= 160 + 101 and stats.cached_tokens >= 100 for stats in each)
        assert group.stats.prompt_tokens == sum(stats.prompt_tokens for stats in each)
        assert group.info.parallel == 8
        assert group.info.cache_cells == sum(member.info.cache_cells for member in group.members)
        await group.stop()
        assert group.status.state is EngineState.STOPPED
        with pytest.raises(EngineUnavailable):
            await group.submit((5, 6), GREEDY)
        await group.start()
        await group.wait_ready(120)
        assert len(await _answer(group, (5, 6))) == 60


async def test_all_streams_go_on_when_an_engine_ends(start: Start, exact_gguf: Path) -> None:
    tokenizer = LlamaTokenizer(exact_gguf)
    prompts = [tokenizer.encode(question) for question in QUESTIONS * 2]
    async with start() as group:
        undisturbed = [await _answer(group, prompt) for prompt in prompts]
        streams = [await group.submit(prompt, GREEDY) for prompt in prompts]
        assert all(member.load for member in group.members)
        first = [await anext(stream) for stream in streams]
        victim = group.members[0]
        os.kill(victim.pid or 0, signal.SIGKILL)
        rest = await asyncio.gather(*(_rest(stream) for stream in streams))
        answers = [[*begin.token_ids, *end] for begin, end in zip(first, rest, strict=True)]
        assert answers == undisturbed
        await victim.wait_ready(60)
        assert group.restarts_total == 1
        assert await _answer(group, prompts[0]) == undisturbed[0]


async def _rest(stream: AsyncIterator[StepOutput]) -> list[int]:
    return [token async for output in stream for token in output.token_ids]


async def test_waiting_requests_do_not_wait_for_the_engine_that_ended(start: Start) -> None:
    """The other one takes them while the first one is still loading."""
    async with start(parallel=2) as group:
        victim, _ = group.members
        prompts = [tuple(range(300 + 50 * i, 340 + 50 * i)) for i in range(8)]
        tasks = [asyncio.ensure_future(_answer(group, prompt)) for prompt in prompts]
        while victim.load < 2:
            await asyncio.sleep(0.01)
        os.kill(victim.pid or 0, signal.SIGKILL)
        while victim.status.state is EngineState.READY:
            await asyncio.sleep(0.01)
        assert victim.load == 0
        assert group.status.state is EngineState.READY
        assert all(len(answer) == 60 for answer in await asyncio.gather(*tasks))


async def test_a_request_that_ends_every_process_does_not_get_through_all_of_them_again_and_again(start: Start) -> None:
    async with start(resume=False) as group:
        stream = await group.submit((5, 6, 7), replace(GREEDY, max_tokens=1500))
        await anext(stream)
        for member in group.members:
            if member.load:
                os.kill(member.pid or 0, signal.SIGKILL)
        with pytest.raises(Exception, match="SIGKILL"):
            async for _ in stream:
                pass


async def test_a_full_engine_is_not_the_end(start: Start) -> None:
    async with start(parallel=2, max_waiting=2) as group:
        endless = replace(GREEDY, max_tokens=1500)
        caller = Caller("one")
        streams = [await group.submit((5, 6, 7), endless, caller=caller) for _ in range(4)]
        with pytest.raises(QueueFull):
            await group.submit((5, 6, 7), endless, caller=caller)
        with pytest.raises(QueueFull):
            group.check_room(caller)
        for stream in streams:
            await stream.aclose()
        assert not any(member.load for member in group.members)


async def test_a_caller_with_few_requests_does_not_wait_for_all_of_one_with_many(start: Start) -> None:
    """In turn, each engine would answer the other caller's last."""
    numbers = random.Random(7)
    params = replace(GREEDY, max_tokens=64)

    async def answer(group: EngineGroup, name: str) -> None:
        prompt = tuple(numbers.choices(range(300, 1300), k=30))
        async for _ in await group.submit(prompt, params, caller=Caller(name)):
            pass

    async with start(parallel=2) as group:
        many = [asyncio.create_task(answer(group, "many")) for _ in range(8)]
        while sum(member.load for member in group.members) < 8:
            await asyncio.sleep(0.001)
        few = [asyncio.create_task(answer(group, "few")) for _ in range(2)]
        await asyncio.gather(*few)
        assert sum(not task.done() for task in many) >= 2
        await asyncio.gather(*many)
