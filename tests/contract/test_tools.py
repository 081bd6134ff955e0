"""Tools through the official client: what the model is told, what comes back, and what goes in again."""

import json
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI, BadRequestError
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from tests.support.api import MODEL
from tests.support.scripted_engine import ScriptedEngine, says

pytestmark = pytest.mark.anyio

ASK: list[ChatCompletionMessageParam] = [{"role": "user", "content": "北京和上海的天气怎么样？"}]
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "查询天气",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
ONE = '调用工具：get_weather\n参数：{"city": "北京"}'
TWO = f'我查一下。\n{ONE}\n调用工具：get_weather\n参数：{{"city": "上海"}}'


async def test_calls_come_with_their_ids_names_and_arguments(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    engine.reply = says(TWO)
    reply = await openai.chat.completions.create(model=MODEL, messages=ASK, tools=[WEATHER])
    choice = reply.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "我查一下。"
    calls = choice.message.tool_calls or []
    assert [json.loads(call.function.arguments) for call in calls if call.type == "function"] == [
        {"city": "北京"},
        {"city": "上海"},
    ]
    assert all(call.id.startswith("call_") for call in calls)
    assert len({call.id for call in calls}) == 2


async def test_content_is_null_where_there_are_only_calls(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    engine.reply = says(ONE)
    reply = await openai.chat.completions.create(model=MODEL, messages=ASK, tools=[WEATHER])
    assert reply.choices[0].message.content is None


async def test_text_alone_is_an_answer_as_ever(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    engine.reply = says("不知道。")
    reply = await openai.chat.completions.create(model=MODEL, messages=ASK, tools=[WEATHER])
    assert reply.choices[0].message.content == "不知道。"
    assert reply.choices[0].message.tool_calls is None
    assert reply.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("per_step", [1, 7, 1000])
async def test_a_stream_of_calls_adds_up(openai: AsyncOpenAI, engine: ScriptedEngine, per_step: int) -> None:
    engine.reply, engine.per_step = says(TWO), per_step
    async with openai.chat.completions.stream(model=MODEL, messages=ASK, tools=[WEATHER], n=2) as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_completion()
    for choice in final.choices:
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content == "我查一下。"
        calls = choice.message.tool_calls or []
        assert [call.function.arguments for call in calls] == ['{"city": "北京"}', '{"city": "上海"}']


async def test_the_first_delta_of_a_call_has_its_head_and_no_arguments(
    openai: AsyncOpenAI, engine: ScriptedEngine
) -> None:
    engine.reply = says(ONE)
    chunks = await openai.chat.completions.create(
        model=MODEL, messages=ASK, tools=[WEATHER], stream=True, stream_options={"include_usage": True}
    )
    seen = [chunk async for chunk in chunks]
    deltas = [call for chunk in seen for choice in chunk.choices for call in choice.delta.tool_calls or ()]
    assert (deltas[0].index, deltas[0].type) == (0, "function")
    assert deltas[0].id is not None
    assert deltas[0].function is not None
    assert (deltas[0].function.name, deltas[0].function.arguments) == ("get_weather", "")
    assert all(delta.id is None and delta.index == 0 for delta in deltas[1:])
    assert "".join(delta.function.arguments or "" for delta in deltas if delta.function) == '{"city": "北京"}'
    assert seen[-1].usage is not None
    assert seen[-1].usage.completion_tokens > 0


async def test_a_call_that_is_cut_off_ends_with_length(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    engine.reply = says(ONE)
    reply = await openai.chat.completions.create(model=MODEL, messages=ASK, tools=[WEATHER], max_tokens=50)
    assert reply.choices[0].finish_reason == "length"


async def test_stop_strings_end_the_text_but_no_call(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    engine.reply = says(TWO)
    reply = await openai.chat.completions.create(model=MODEL, messages=ASK, tools=[WEATHER], stop=["city", "\n"])
    assert len(reply.choices[0].message.tool_calls or []) == 2
    reply = await openai.chat.completions.create(model=MODEL, messages=ASK, tools=[WEATHER], stop=["查"])
    assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == ("我", "stop")
    assert reply.choices[0].message.tool_calls is None


async def test_results_go_back_to_the_model(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    engine.reply = says(ONE)
    reply = await openai.chat.completions.create(model=MODEL, messages=ASK, tools=[WEATHER])
    asked = reply.choices[0].message
    result = {
        "role": "tool",
        "tool_call_id": (asked.tool_calls or [])[0].id,
        "content": [{"type": "text", "text": "晴"}],
    }
    messages: list[Any] = [*ASK, asked, result]  # the client takes its own reply, as its types do not say
    await openai.chat.completions.create(model=MODEL, messages=messages, tools=[WEATHER])
    first, second = (submission.prompt for submission in engine.submissions)
    assert second == f"{first}{ONE}\n\n[Round 2]\n\n问：工具 get_weather 的结果：\n晴\n\n答："


async def test_a_result_of_no_call_is_refused(openai: AsyncOpenAI) -> None:
    messages: list[ChatCompletionMessageParam] = [*ASK, {"role": "tool", "tool_call_id": "call_x", "content": "晴"}]
    with pytest.raises(BadRequestError, match="call_x") as caught:
        await openai.chat.completions.create(model=MODEL, messages=messages)
    assert caught.value.param == "messages"


async def test_bad_tools_are_a_bad_request(openai: AsyncOpenAI) -> None:
    with pytest.raises(BadRequestError, match="must be 1 to 128") as caught:
        await openai.chat.completions.create(
            model=MODEL, messages=ASK, tools=[{"type": "function", "function": {"name": "a b"}}]
        )
    assert caught.value.param == "tools"


async def test_functions_are_answered_in_their_own_shape(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    engine.reply = says(ONE)
    body = {"messages": ASK, "functions": [WEATHER["function"]]}
    choice = (await http.post("/v1/chat/completions", json=body)).json()["choices"][0]
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"] == {"name": "get_weather", "arguments": '{"city": "北京"}'}
    assert "tool_calls" not in choice["message"]

    messages = [*ASK, choice["message"], {"role": "function", "name": "get_weather", "content": "晴"}]
    assert (await http.post("/v1/chat/completions", json={**body, "messages": messages})).status_code == 200
    assert engine.submissions[-1].prompt.endswith("问：工具 get_weather 的结果：\n晴\n\n答：")


async def test_functions_stream_in_their_own_shape(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    engine.reply = says(ONE)
    chunks = await openai.chat.completions.create(
        model=MODEL, messages=ASK, functions=[WEATHER["function"]], function_call="auto", stream=True
    )
    choices = [chunk.choices[0] async for chunk in chunks]
    calls = [choice.delta.function_call for choice in choices if choice.delta.function_call]
    assert (calls[0].name, calls[0].arguments) == ("get_weather", "")
    assert "".join(call.arguments or "" for call in calls) == '{"city": "北京"}'
    assert choices[-1].finish_reason == "function_call"


async def test_an_answer_that_has_begun_is_gone_on_with(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    engine.reply = says("五点。")
    reply = await openai.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "几点了？"}, {"role": "assistant", "content": "现在"}],
        extra_body={"continue_final_message": True, "add_generation_prompt": False},
    )
    assert engine.submissions[0].prompt == "[Round 1]\n\n问：几点了？\n\n答：现在"
    # A space in front belongs to the text here: the word before it is the prompt's.
    assert reply.choices[0].message.content == " 五点。"
