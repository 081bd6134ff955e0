"""Functions in the Responses API: offered, called, and their results taken back."""

import httpx
import pytest
from openai import AsyncOpenAI
from openai.types.responses import FunctionToolParam, ResponseInputItemParam
from openai.types.responses.response_input_item_param import FunctionCallOutput

from tests.support.response_events import check_order, create, events, refusal
from tests.support.scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

CALL = '调用工具：get_weather\n参数：{"city": "北京"}'
WEATHER: FunctionToolParam = {
    "type": "function",
    "name": "get_weather",
    "description": "查询天气",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": True,
}


@pytest.mark.parametrize("per_step", [1, 1000])
async def test_the_model_calls_functions(http: httpx.AsyncClient, engine: ScriptedEngine, per_step: int) -> None:
    engine.reply, engine.per_step = (lambda _: f"我查一下。\n{CALL}\n{CALL}"), per_step
    whole, streamed = await create(http, tools=[WEATHER]), check_order(await events(http, tools=[WEATHER]))
    for response in (whole, streamed):
        text, *calls = response["output"]
        assert text["content"][0]["text"] == "我查一下。"
        assert [(call["name"], call["arguments"]) for call in calls] == [("get_weather", '{"city": "北京"}')] * 2
        assert len({call["call_id"] for call in calls}) == 2
        assert (response["tool_choice"], response["parallel_tool_calls"]) == ("auto", True)
    assert "get_weather" in engine.submissions[-1].prompt


async def test_an_answer_of_calls_alone_has_no_message(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    engine.reply = lambda _: CALL
    for response in (await create(http, tools=[WEATHER]), check_order(await events(http, tools=[WEATHER]))):
        assert [item["type"] for item in response["output"]] == ["function_call"]


async def test_what_came_of_a_call_goes_back_in(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    engine.reply = lambda _: f"我查一下。\n{CALL}"
    first = await openai.responses.create(input="天气", tools=[WEATHER])
    call = first.output[1]
    assert call.type == "function_call"
    result: FunctionCallOutput = {"type": "function_call_output", "call_id": call.call_id, "output": "晴"}
    engine.reply = lambda _: "晴"
    await openai.responses.create(input=[result], previous_response_id=first.id)
    stored = engine.submissions[-1].prompt
    whole: list[ResponseInputItemParam] = [
        {"role": "user", "content": "天气"},
        {"role": "assistant", "content": "我查一下。"},
        {"type": "function_call", "call_id": "call_1", "name": call.name, "arguments": call.arguments},
        {"type": "function_call_output", "call_id": "call_1", "output": "晴"},
    ]
    await openai.responses.create(input=whole)
    assert engine.submissions[-1].prompt == stored
    assert "工具 get_weather 的结果：\n晴" in stored


@pytest.mark.parametrize(
    ("choice", "calls"),
    [
        ("required", ["get_time", "get_weather"]),
        ({"type": "function", "name": "get_time"}, ["get_time"]),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "get_weather"}]},
            ["get_weather"],
        ),
    ],
)
async def test_what_may_be_called_can_be_chosen(
    http: httpx.AsyncClient, engine: ScriptedEngine, choice: object, calls: list[str]
) -> None:
    response = await create(http, tools=[WEATHER, {"type": "function", "name": "get_time"}], tool_choice=choice)
    assert response["tool_choice"] == choice
    grammar = engine.submissions[0].params.grammar
    assert grammar is not None
    assert [name for name in ("get_time", "get_weather") if name in grammar.source] == calls


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [WEATHER], "tool_choice": {"type": "web_search"}}, "tool_choice.type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [WEATHER, WEATHER]}, "tools"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "name": "x"}}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": "some"}, "tool_choice"),
        ({"tools": [WEATHER], "top_logprobs": 2}, "top_logprobs"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"input": [{"type": "function_call_output", "call_id": "none", "output": "x"}]}, "input"),
        ({"input": [{"type": "function_call", "name": "x", "arguments": "{}"}]}, "input[0].call_id"),
    ],
)
async def test_tools_that_cannot_be_are_refused_by_name(
    http: httpx.AsyncClient, fields: dict[str, object], param: str
) -> None:
    assert (await refusal(http, **fields))[:2] == (400, param)
