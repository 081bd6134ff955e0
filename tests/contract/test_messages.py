"""Anthropic's Messages API, through its official client and as it goes over the wire."""

import httpx
import httpx2
import pytest
from anthropic import (
    AnthropicError,
    APIStatusError,
    AsyncAnthropic,
    BadRequestError,
    InternalServerError,
    NotFoundError,
    RateLimitError,
)
from anthropic.types import MessageParam, MessageTokensCount, ToolParam, ToolResultBlockParam
from anthropic.types.shared import ErrorResponse
from fastapi import FastAPI

from glmserve.engine.errors import EngineDied, QueueFull
from tests.support.api import ALIAS, MODEL
from tests.support.message_events import Json, check_message, gather, read_message_events
from tests.support.scripted_engine import ScriptedEngine
from tests.support.wire_models import checked

pytestmark = pytest.mark.anyio

URL = "/v1/messages"
HELLO: list[MessageParam] = [{"role": "user", "content": "你好"}]
ANSWER = "你问的是：你好"
WEATHER: ToolParam = {
    "name": "get_weather",
    "description": "查询天气",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
CALL = '调用工具：get_weather\n参数：{"city": "北京"}'


@pytest.fixture
def anthropic(app: FastAPI, http: httpx.AsyncClient) -> AsyncAnthropic:
    """The official client; ``http`` keeps the application running."""
    transport = httpx2.AsyncClient(transport=httpx2.ASGITransport(app))
    return AsyncAnthropic(base_url="http://testserver", api_key="none", http_client=transport, max_retries=0)


async def create(http: httpx.AsyncClient, **fields: object) -> Json:
    reply = await http.post(URL, json={"messages": HELLO, "max_tokens": 1000, **fields})
    assert reply.status_code == 200, reply.text
    check_message(reply.json())
    result: Json = reply.json()
    return result


async def streamed(http: httpx.AsyncClient, **fields: object) -> list[Json]:
    reply = await http.post(URL, json={"messages": HELLO, "max_tokens": 1000, "stream": True, **fields})
    return read_message_events(reply.text)


async def both(http: httpx.AsyncClient, **fields: object) -> list[Json]:
    """Return the message as it comes whole, and as the events of a stream tell it: they are the same."""
    whole, told = await create(http, **fields), gather(await streamed(http, **fields))
    calls = [block.pop("id") for message in (whole, told) for block in message["content"] if "id" in block]
    assert len(set(calls)) == len(calls)
    assert {**whole, "id": ""} == {**told, "id": ""}
    return [whole, told]


async def refusal(http: httpx.AsyncClient, **fields: object) -> tuple[int, str]:
    reply = await http.post(URL, json={"messages": HELLO, "max_tokens": 1000, **fields})
    failure = checked(ErrorResponse, reply.json())
    assert failure.error.type == "invalid_request_error"
    return reply.status_code, failure.error.message


def question(engine: ScriptedEngine) -> str:
    return engine.submissions[-1].prompt


async def test_a_message_has_text_and_reason_and_counts(anthropic: AsyncAnthropic, engine: ScriptedEngine) -> None:
    engine.cached_tokens = 12
    message = await anthropic.messages.create(model=ALIAS, max_tokens=1000, messages=HELLO, system="简短")
    assert [block.text for block in message.content if block.type == "text"] == ["你问的是：简短\n\n你好"]
    assert (message.stop_reason, message.model) == ("end_turn", MODEL)
    assert message._request_id
    usage = message.usage
    assert usage.cache_read_input_tokens == 12
    assert usage.input_tokens + 12 == len(engine.submissions[0].prompt_ids)


async def test_a_stream_tells_of_the_same_message(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    engine.cached_tokens = 12
    for message in await both(http):
        assert message["content"][0]["text"] == ANSWER


async def test_the_helper_of_the_client_gathers_a_stream(anthropic: AsyncAnthropic) -> None:
    async with anthropic.messages.stream(model=MODEL, max_tokens=1000, messages=HELLO) as stream:
        pieces = [text async for text in stream.text_stream]
        final = await stream.get_final_message()
    assert len(pieces) > 1
    assert "".join(pieces) == ANSWER
    assert final.stop_reason == "end_turn"


async def test_a_conversation_of_blocks_reaches_the_engine_as_rounds(
    http: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    cached = {"cache_control": {"type": "ephemeral"}}
    given = [
        {"role": "user", "content": [{"type": "text", "text": "a", **cached}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "c", "citations": None}]},
        {"role": "system", "content": "礼貌"},
        {"role": "user", "content": "d"},
    ]
    await create(http, messages=given, system=[{"type": "text", "text": "简短", **cached}])
    assert question(engine) == "[Round 1]\n\n问：简短\n\na\nb\n\n答：c\n\n[Round 2]\n\n问：礼貌\n\nd\n\n答："


@pytest.mark.parametrize("per_step", [1, 5, 100])
async def test_the_stop_sequence_that_ended_the_answer_is_reported(
    http: httpx.AsyncClient, engine: ScriptedEngine, per_step: int
) -> None:
    engine.per_step = per_step
    for message in await both(http, stop_sequences=["never", "：你"]):
        assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "：你")
        assert message["content"][0]["text"] == "你问的是"


async def test_an_answer_that_is_cut_off_says_by_what(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    for message in await both(http, max_tokens=7):
        assert (message["stop_reason"], message["content"][0]["text"]) == ("max_tokens", "你问")
    engine.context_length = 40
    for message in await both(http):
        assert message["stop_reason"] == "model_context_window_exceeded"


async def test_an_empty_answer_has_no_blocks(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    engine.reply = lambda _: ""
    for message in await both(http):
        assert (message["content"], message["stop_reason"]) == ([], "end_turn")


async def test_sampling_is_as_requested(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    await create(http, temperature=0.5, top_p=0.25, top_k=3, max_tokens=9, metadata={"user_id": "x"})
    params = engine.submissions[0].params
    assert (params.temperature, params.top_p, params.top_k, params.max_tokens) == (0.5, 0.25, 3, 9)


async def test_an_answer_can_be_begun(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    await create(http, messages=[*HELLO, {"role": "assistant", "content": "我是"}])
    assert question(engine) == "[Round 1]\n\n问：你好\n\n答：我是"


@pytest.mark.parametrize("per_step", [1, 1000])
async def test_the_model_calls_tools(http: httpx.AsyncClient, engine: ScriptedEngine, per_step: int) -> None:
    engine.reply, engine.per_step = (lambda _: f"我查一下。\n{CALL}\n{CALL}"), per_step
    for message in await both(http, tools=[WEATHER]):
        text, *calls = message["content"]
        assert text["text"] == "我查一下。"
        assert [(call["name"], call["input"]) for call in calls] == [("get_weather", {"city": "北京"})] * 2
        assert message["stop_reason"] == "tool_use"


async def test_a_call_that_is_cut_off_is_no_reason_to_call(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    engine.reply = lambda _: CALL
    message = await create(http, tools=[WEATHER], max_tokens=len(CALL.encode()) - 5)
    assert (message["stop_reason"], message["content"][0]["input"]) == ("max_tokens", {})


async def test_what_came_of_a_tool_goes_back_in(anthropic: AsyncAnthropic, engine: ScriptedEngine) -> None:
    engine.reply = lambda _: f"我查一下。\n{CALL}"
    first = await anthropic.messages.create(model=MODEL, max_tokens=1000, messages=HELLO, tools=[WEATHER])
    use = first.content[1]
    assert use.type == "tool_use"
    result: ToolResultBlockParam = {
        "type": "tool_result",
        "tool_use_id": use.id,
        "content": [{"type": "text", "text": "晴"}],
    }
    following: MessageParam = {"role": "user", "content": [result, {"type": "text", "text": "然后呢？"}]}
    await anthropic.messages.create(
        model=MODEL, max_tokens=1000, messages=[*HELLO, first.to_param(), following], tools=[WEATHER]
    )  # fmt: skip
    assert f"答：我查一下。\n{CALL}\n\n" in question(engine)
    assert question(engine).endswith("工具 get_weather 的结果：\n晴\n然后呢？\n\n答：")


async def test_a_tool_that_failed_says_so(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    use = {"type": "tool_use", "id": "a", "name": "get_weather", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "a", "content": "断线", "is_error": True}
    await create(
        http, messages=[*HELLO, {"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
    )
    assert question(engine).endswith("结果：\nError: 断线\n\n答：")


@pytest.mark.parametrize(
    ("choice", "calls"),
    [
        ({"type": "any"}, ["get_time", "get_weather"]),
        ({"type": "tool", "name": "get_time"}, ["get_time"]),
        ({"type": "auto", "disable_parallel_tool_use": True}, ["get_time", "get_weather"]),
        ({"type": "none"}, []),
    ],
)
async def test_what_may_be_called_can_be_chosen(
    http: httpx.AsyncClient, engine: ScriptedEngine, choice: object, calls: list[str]
) -> None:
    tools = [WEATHER, {"type": "custom", "name": "get_time", "input_schema": {"type": "object"}}]
    await create(http, tools=tools, tool_choice=choice)
    grammar = engine.submissions[0].params.grammar
    assert [name for name in ("get_time", "get_weather") if grammar and name in grammar.source] == calls


async def test_an_answer_can_be_constrained_to_a_schema(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    await create(http, output_config={"format": {"type": "json_schema", "schema": {"type": "object"}}, "effort": "low"})
    grammar = engine.submissions[0].params.grammar
    assert grammar is not None
    assert grammar.source == '{"type":"object"}'


async def test_tokens_of_a_prompt_are_counted(anthropic: AsyncAnthropic, http: httpx.AsyncClient) -> None:
    message = await anthropic.messages.create(model=MODEL, max_tokens=5, messages=HELLO, tools=[WEATHER])
    counted = await anthropic.messages.count_tokens(model=MODEL, messages=HELLO, tools=[WEATHER])
    assert counted.input_tokens == message.usage.input_tokens
    checked(MessageTokensCount, (await http.post(f"{URL}/count_tokens", json={"messages": HELLO})).json())


@pytest.mark.parametrize("stream", [False, True])
async def test_errors_have_anthropics_shape(
    anthropic: AsyncAnthropic, http: httpx.AsyncClient, engine: ScriptedEngine, stream: bool
) -> None:
    async def failing(error: type[APIStatusError], model: str = MODEL) -> APIStatusError:
        with pytest.raises(error) as caught:
            await anthropic.messages.create(model=model, max_tokens=5, messages=HELLO, stream=stream)
        return caught.value

    assert (await failing(NotFoundError, "claude-9")).type == "not_found_error"
    engine.reject = QueueFull(waiting=9, retry_after=3)
    limited = await failing(RateLimitError)
    assert (limited.type, limited.response.headers["retry-after"]) == ("rate_limit_error", "3")
    engine.reject = EngineDied("gone")
    assert (await failing(InternalServerError)).type == "overloaded_error"
    engine.reject = RuntimeError("secret")
    told = await failing(InternalServerError)
    assert told.type == "api_error"
    assert "secret" not in told.message
    engine.reject, engine.context_length = None, 20
    assert "34 tokens" in (await failing(BadRequestError)).message
    reply = await http.post(URL, content=b"{")
    assert checked(ErrorResponse, reply.json()).request_id == reply.headers["request-id"]


async def test_a_failure_in_a_stream_is_an_event(
    anthropic: AsyncAnthropic, http: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    engine.fail, engine.per_step = RuntimeError("secret"), 6
    told = await streamed(http)
    assert [event["type"] for event in told[-2:]] == ["content_block_delta", "error"]
    assert told[-1]["error"] == {"type": "api_error", "message": "the server failed to handle this request"}
    assert engine.running == 0
    with pytest.raises(AnthropicError):
        async for _ in await anthropic.messages.create(model=MODEL, max_tokens=50, messages=HELLO, stream=True):
            pass


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ""}}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": -2}, "max_tokens"),
        ({"temperature": 1.5}, "temperature"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, "messages[0].content[0] has the type 'image'"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_use"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "x"}]}]}, "'x'"),
        ({"system": [IMAGE]}, "system"),
        ({"tools": [{"type": "custom", "name": "x"}]}, "tools[0].input_schema"),
        ({"tools": [{"name": "x"}]}, "tools[0].input_schema"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "x"}}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"messages": []}, "must not be empty"),
        (
            {
                "tools": [WEATHER],
                "messages": [*HELLO, {"role": "assistant", "content": "x"}],
                "tool_choice": {"type": "any"},
            },
            "a continued answer remains text",
        ),
        ({"stop_sequences": ["x"] * 17}, "stop_sequences"),
        ({"container": "x"}, "container"),
    ],
)
async def test_what_cannot_be_is_refused_by_name(
    http: httpx.AsyncClient, engine: ScriptedEngine, fields: dict[str, object], told: str
) -> None:
    status, message = await refusal(http, **fields)
    assert status == 400
    assert told in message
    assert engine.submissions == []
