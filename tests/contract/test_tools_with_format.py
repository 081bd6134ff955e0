"""Tools together with a format, in every dialect: an answer is a call or a text in the format."""

import json
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI
from openai.types.responses import FunctionToolParam
from pydantic import BaseModel

from glmserve.engine.params import Grammar
from tests.support.api import MODEL
from tests.support.message_events import gather, read_message_events
from tests.support.response_events import check_order, create, events
from tests.support.scripted_engine import ScriptedEngine, says

pytestmark = pytest.mark.anyio

ASK: Any = [{"role": "user", "content": "北京的天气怎么样？"}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER: Any = {"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA, "strict": True}}
FLAT: FunctionToolParam = {"type": "function", "name": "get_weather", "parameters": SCHEMA, "strict": False}
CALL = '调用工具：get_weather\n参数：{"city": "北京"}'
TEXT = '{"verdict": "good"}'
VERDICT = {
    "type": "object",
    "properties": {"verdict": {"enum": ["good", "bad"]}},
    "required": ["verdict"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "Review", "schema": VERDICT}}


class Review(BaseModel):
    verdict: str


def grammar(engine: ScriptedEngine) -> Grammar:
    found = engine.submissions[-1].params.grammar
    assert found is not None
    return found


@pytest.mark.parametrize("per_step", [1, 1000])
async def test_the_openai_client_parses_either(openai: AsyncOpenAI, engine: ScriptedEngine, per_step: int) -> None:
    engine.per_step = per_step
    for answer in (TEXT, CALL):
        engine.reply = says(answer)
        whole = await openai.chat.completions.parse(model=MODEL, messages=ASK, tools=[WEATHER], response_format=Review)
        async with openai.chat.completions.stream(
            model=MODEL, messages=ASK, tools=[WEATHER], response_format=Review
        ) as stream:
            streamed = await stream.get_final_completion()
        for choice in (whole.choices[0], streamed.choices[0]):
            called = answer == CALL
            assert choice.finish_reason == ("tool_calls" if called else "stop")
            assert choice.message.parsed == (None if called else Review(verdict="good"))
            assert len(choice.message.tool_calls or ()) == called
    assert '"verdict"' in grammar(engine).source
    assert "get_weather" in grammar(engine).source


@pytest.mark.parametrize(
    "asked",
    [
        {"response_format": FORMAT},
        {"response_format": {"type": "json_object"}},
        {"structured_outputs": {"json": VERDICT}},
        {"structured_outputs": {"regex": "好|坏"}},
        {"structured_outputs": {"choice": ["好", "坏"]}},
        {"structured_outputs": {"grammar": 'start: "好" | "坏"'}},
        {"guided_json": VERDICT},
        {"guided_choice": ["好", "坏"]},
    ],
)
async def test_every_format_of_chats_stands_beside_tools(
    http: httpx.AsyncClient, engine: ScriptedEngine, asked: dict[str, object]
) -> None:
    async def source(**more: object) -> str:
        reply = await http.post("/v1/chat/completions", json={"messages": ASK, "tools": [WEATHER], **asked, **more})
        assert reply.status_code == 200, reply.text
        return grammar(engine).source

    text = await source()
    assert "get_weather" in text
    calls_alone = await source(tool_choice="required")
    assert calls_alone == await source(tool_choice={"type": "function", "function": {"name": "get_weather"}})
    assert "text:" in text
    assert "text:" not in calls_alone
    assert "get_weather" not in await source(tool_choice="none")


@pytest.mark.parametrize("answer", [TEXT, CALL])
async def test_a_response_is_either(http: httpx.AsyncClient, engine: ScriptedEngine, answer: str) -> None:
    engine.reply = lambda _: answer
    asked = {"text": {"format": {"type": "json_schema", "name": "Review", "schema": VERDICT}}, "tools": [FLAT]}
    for response in (await create(http, **asked), check_order(await events(http, **asked))):
        assert [item["type"] for item in response["output"]] == ["function_call" if answer == CALL else "message"]
    assert '"verdict"' in grammar(engine).source


async def test_the_openai_client_parses_responses(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    engine.reply = lambda _: TEXT
    response = await openai.responses.parse(input="q", tools=[FLAT], text_format=Review)
    assert response.output_parsed == Review(verdict="good")


@pytest.mark.parametrize(("answer", "kind"), [(TEXT, "text"), (CALL, "tool_use")])
async def test_a_message_is_either(http: httpx.AsyncClient, engine: ScriptedEngine, answer: str, kind: str) -> None:
    engine.reply = lambda _: answer
    tool = {"name": "get_weather", "input_schema": SCHEMA}
    asked = {"output_config": {"format": {"type": "json_schema", "schema": VERDICT}}, "tools": [tool]}
    body = {"messages": ASK, "max_tokens": 100, **asked}
    whole = (await http.post("/v1/messages", json=body)).json()
    streamed = gather(read_message_events((await http.post("/v1/messages", json={**body, "stream": True})).text))
    assert whole["content"][0]["type"] == streamed["content"][0]["type"] == kind
    assert '"verdict"' in grammar(engine).source
    assert json.loads(TEXT)["verdict"] in grammar(engine).source
