"""Chat completions through the official client."""

import pytest
from openai import APIError, AsyncOpenAI, BadRequestError, InternalServerError, NotFoundError, RateLimitError
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessageParam

from glmserve.engine.errors import DecodeFailed, EngineDied, EngineUnavailable, QueueFull
from tests.support.api import ALIAS, MODEL
from tests.support.scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "你好"}]
ANSWER = "你问的是：你好"


async def stream(openai: AsyncOpenAI, **fields: object) -> list[ChatCompletionChunk]:
    chunks = await openai.chat.completions.create(model=MODEL, messages=HELLO, stream=True, extra_body=fields)
    return [chunk async for chunk in chunks]


async def whole(openai: AsyncOpenAI, **fields: object) -> ChatCompletion:
    return await openai.chat.completions.create(model=MODEL, messages=HELLO, extra_body=fields)


async def read_into(chunks: list[ChatCompletionChunk], openai: AsyncOpenAI) -> None:
    async for chunk in await openai.chat.completions.create(model=MODEL, messages=HELLO, stream=True):
        chunks.append(chunk)


async def test_an_answer_has_text_and_reason_and_counts(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    engine.cached_tokens = 12
    reply = await openai.chat.completions.create(model=MODEL, messages=HELLO)
    assert reply.object == "chat.completion"
    assert reply.model == MODEL
    assert reply.choices[0].message.content == ANSWER
    assert reply.choices[0].message.role == "assistant"
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == len(engine.submissions[0].prompt_ids)
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert reply.usage.prompt_tokens_details is not None
    assert reply.usage.prompt_tokens_details.cached_tokens == 12


async def test_a_conversation_reaches_the_engine_as_rounds(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    messages: list[ChatCompletionMessageParam] = [
        {"role": "system", "content": "简短"},
        {"role": "user", "content": [{"type": "text", "text": "a"}]},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    await openai.chat.completions.create(model=MODEL, messages=messages)
    assert engine.submissions[0].prompt == "[Round 1]\n\n问：简短\n\na\n\n答：b\n\n[Round 2]\n\n问：c\n\n答："


async def test_a_stream_opens_with_the_role_and_ends_with_the_reason(openai: AsyncOpenAI) -> None:
    chunks = await stream(openai)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[0].choices[0].delta.content == ""
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ANSWER
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert chunks[-1].choices[0].delta.content is None
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in chunks)


async def test_a_stream_ends_with_the_counts_where_requested(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    chunks = await stream(openai, stream_options={"include_usage": True})
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.prompt_tokens == len(engine.submissions[0].prompt_ids)
    assert all(chunk.usage is None and chunk.choices for chunk in chunks[:-1])


async def test_no_chunk_has_half_a_character(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    engine.per_step = 1
    assert not any("\ufffd" in (chunk.choices[0].delta.content or "") for chunk in await stream(openai))


async def test_the_length_is_what_was_requested(openai: AsyncOpenAI) -> None:
    reply = await openai.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=7)
    assert reply.choices[0].finish_reason == "length"
    assert reply.choices[0].message.content == "你问"
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 7


@pytest.mark.parametrize("per_step", [1, 5, 100])
async def test_a_stop_string_ends_the_answer_and_the_sequence(
    openai: AsyncOpenAI, engine: ScriptedEngine, per_step: int
) -> None:
    engine.per_step, engine.endless = per_step, True
    reply = await openai.chat.completions.create(model=MODEL, messages=HELLO, stop=["never", "：你"])
    assert reply.choices[0].message.content == "你问的是"
    assert reply.choices[0].finish_reason == "stop"
    assert engine.running == 0


async def test_a_stop_string_ends_a_stream_the_same_way(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    engine.endless = True
    chunks = await stream(openai, stop="：你")
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "你问的是"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert engine.running == 0


async def test_n_answers_share_a_prompt_and_differ_in_seed(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    engine.reply = lambda submission: f"seed {submission.params.seed}"
    reply = await openai.chat.completions.create(model=MODEL, messages=HELLO, n=3, seed=5)
    assert [choice.message.content for choice in reply.choices] == ["seed 5", "seed 6", "seed 7"]
    assert len({submission.prompt_ids for submission in engine.submissions}) == 1
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == len(engine.submissions[0].prompt_ids)


async def test_n_answers_stream_side_by_side(openai: AsyncOpenAI) -> None:
    chunks = await stream(openai, n=2)
    for index in range(2):
        own = [chunk.choices[0] for chunk in chunks if chunk.choices[0].index == index]
        assert own[0].delta.role == "assistant"
        assert "".join(choice.delta.content or "" for choice in own) == ANSWER
        assert own[-1].finish_reason == "stop"


async def test_an_alias_answers_as_the_model_it_stands_for(openai: AsyncOpenAI) -> None:
    reply = await openai.chat.completions.create(model=ALIAS, messages=HELLO)
    assert reply.model == MODEL


async def test_an_unknown_model_is_not_found(openai: AsyncOpenAI) -> None:
    with pytest.raises(NotFoundError) as caught:
        await openai.chat.completions.create(model="gpt-9", messages=HELLO)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


async def test_a_prompt_past_the_context_is_refused_with_the_numbers(
    openai: AsyncOpenAI, engine: ScriptedEngine
) -> None:
    engine.context_length = 100
    for text in ("x" * 100, "x" * 10**6):
        with pytest.raises(BadRequestError) as caught:
            await openai.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": text}], stream=True)
        assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")
        assert "100" in caught.value.message
    assert engine.submissions == []


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_full_queue_is_429_with_retry_after(
    openai: AsyncOpenAI, engine: ScriptedEngine, streamed: bool
) -> None:
    engine.reject = QueueFull(waiting=9, retry_after=3)
    with pytest.raises(RateLimitError) as caught:
        await openai.chat.completions.create(model=MODEL, messages=HELLO, stream=streamed)
    assert caught.value.response.headers["retry-after"] == "3"
    assert caught.value.code == "queue_full"


async def test_one_refused_sequence_of_several_leaves_none_running(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    engine.reject, engine.reject_from = QueueFull(waiting=9), 2
    with pytest.raises(RateLimitError):
        await openai.chat.completions.create(model=MODEL, messages=HELLO, n=3)
    assert len(engine.submissions) == 2
    assert engine.running == 0


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (EngineDied("the engine process ended"), 503, "engine_died"),
        (EngineUnavailable("restarting"), 503, "engine_unavailable"),
        (DecodeFailed("no"), 500, "decode_failed"),
        (RuntimeError("secret"), 500, "internal_error"),
    ],
)
async def test_a_failing_engine_is_a_server_error_with_its_code(
    openai: AsyncOpenAI, engine: ScriptedEngine, failure: Exception, status: int, code: str
) -> None:
    engine.fail = failure
    with pytest.raises(InternalServerError) as caught:
        await openai.chat.completions.create(model=MODEL, messages=HELLO)
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("failure", [EngineDied("the engine process ended"), RuntimeError("secret")])
async def test_a_failure_in_a_stream_is_an_error_event(
    openai: AsyncOpenAI, engine: ScriptedEngine, failure: Exception
) -> None:
    engine.fail, engine.per_step = failure, 6
    chunks: list[ChatCompletionChunk] = []
    with pytest.raises(APIError) as caught:
        await read_into(chunks, openai)
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["", "你"]
    assert caught.value.code in ("engine_died", "internal_error")
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("streamed", [False, True])
async def test_when_one_of_several_answers_fails_the_others_are_aborted(
    openai: AsyncOpenAI, engine: ScriptedEngine, streamed: bool
) -> None:
    engine.endless, engine.fail, engine.fail_choice = True, EngineDied("gone"), 1
    with pytest.raises(APIError):
        await (stream(openai, n=3) if streamed else whole(openai, n=3))
    assert len(engine.submissions) == 3
    assert engine.running == 0


async def test_models_are_listed_and_described(openai: AsyncOpenAI) -> None:
    assert [model.id async for model in openai.models.list()] == [MODEL]
    for name in (MODEL, ALIAS):
        model = await openai.models.retrieve(name)
        assert (model.id, model.object, model.owned_by) == (MODEL, "model", "glmserve")
    with pytest.raises(NotFoundError):
        await openai.models.retrieve("gpt-9")
