"""The submission to the engine: however a generation ends, none of its sequences runs on."""

import asyncio
from collections.abc import AsyncGenerator

import anyio
import pytest

from glmserve.chat.prompts.messages import Message, Role
from glmserve.engine.errors import EngineDied, PromptTooLong
from glmserve.engine.interface import ANYBODY, Caller
from glmserve.engine.messages import StepOutput
from glmserve.engine.params import SamplingParams
from glmserve.generation.generate import GenerationRequest, complete, generate, unless_gone
from glmserve.generation.generation import Generation, Usage
from glmserve.generation.prepare import room_for_answer
from glmserve.http.errors import ClientDisconnected
from glmserve.http.request_context import RequestContext
from glmserve.model_pool.served_model import ServedModel
from tests.support.api import served_model
from tests.support.scripted_engine import ScriptedEngine, Submission

CONTEXT = RequestContext()
pytestmark = pytest.mark.anyio


async def started(engine: ScriptedEngine) -> ServedModel:
    model = served_model(engine)
    await model.host.start()
    return model


async def request(model: ServedModel, n: int = 1) -> GenerationRequest:
    prompt = await model.encode([Message(Role.USER, "你好")], CONTEXT)
    return GenerationRequest(prompt.ids, SamplingParams(max_tokens=1000), n=n)


async def read_all(generation: Generation) -> None:
    try:
        async for _ in generation:
            pass
    finally:
        await generation.aclose()


@pytest.mark.parametrize("n", [1, 3])
async def test_one_that_was_never_read_can_be_closed_and_again(n: int) -> None:
    engine = ScriptedEngine(endless=True)
    model = await started(engine)
    generation = await generate(model, await request(model, n), CONTEXT)
    assert engine.running == n
    await generation.aclose()
    await generation.aclose()
    assert engine.running == 0


@pytest.mark.parametrize("n", [1, 3])
async def test_one_left_in_the_middle_is_closed(n: int) -> None:
    engine = ScriptedEngine(endless=True)
    model = await started(engine)
    generation = await generate(model, await request(model, n), CONTEXT)
    async for _ in generation:
        break
    await generation.aclose()
    assert engine.running == 0


async def test_a_task_that_is_cancelled_closes_it() -> None:
    engine = ScriptedEngine(endless=True, step_seconds=0.01)
    model = await started(engine)
    task = asyncio.create_task(read_all(await generate(model, await request(model, 2), CONTEXT)))
    await asyncio.sleep(0.03)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engine.running == 0


async def test_a_scope_that_cancels_again_and_again_does_not_keep_it_from_closing() -> None:
    engine = ScriptedEngine(endless=True, step_seconds=0.01)
    model = await started(engine)
    generation = await generate(model, await request(model, 2), CONTEXT)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read_all, generation)
        await anyio.sleep(0.03)
        tasks.cancel_scope.cancel()
    assert engine.running == 0


async def test_usage_counts_a_shared_prompt_once_and_only_what_nobody_computed_as_cached() -> None:
    engine = ScriptedEngine(reply=lambda _: "ab", cached_tokens=5)
    model = await started(engine)
    ask = await request(model, 2)
    completion = await complete(model, ask, CONTEXT)
    assert completion.usage == Usage(len(ask.prompt_ids), completion_tokens=2 * 4, cached_tokens=5)


async def test_an_engine_that_ends_without_a_reason_is_a_failure() -> None:
    class Broken(ScriptedEngine):
        async def submit(
            self, prompt_ids: tuple[int, ...], params: SamplingParams, variant: str = "", caller: Caller = ANYBODY
        ) -> AsyncGenerator[StepOutput, None]:
            stream = await super().submit(prompt_ids, params, variant, caller)
            await stream.aclose()
            return stream

    model = await started(Broken())
    with pytest.raises(EngineDied):
        await complete(model, await request(model), CONTEXT)


async def test_work_for_a_caller_that_has_gone_is_cancelled() -> None:
    cancelled = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def gone() -> None:
        await asyncio.sleep(0.01)

    with pytest.raises(ClientDisconnected):
        await unless_gone(work(), gone)
    assert cancelled.is_set()


async def test_work_that_is_done_first_wins() -> None:
    async def work() -> str:
        return "done"

    async def stays() -> None:
        await asyncio.sleep(60)

    assert await unless_gone(work(), stays) == "done"


async def test_the_context_must_leave_a_token_for_the_answer() -> None:
    model = await started(ScriptedEngine(context_length=100))
    assert room_for_answer(model, 99) == 1
    with pytest.raises(PromptTooLong):
        room_for_answer(model, 100)


async def test_a_long_text_is_encoded_as_a_short_one_is() -> None:
    seen: list[Submission] = []

    def note(submission: Submission) -> str:
        seen.append(submission)
        return "x"

    engine = ScriptedEngine(context_length=20_000, reply=note)
    model = await started(engine)
    text = "长" * 5000
    prompt = await model.encode([Message(Role.USER, text)], CONTEXT)
    await complete(model, GenerationRequest(prompt.ids, SamplingParams(max_tokens=5)), CONTEXT)
    assert text in seen[0].prompt
