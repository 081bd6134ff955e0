"""Tools and thinking with the real templates of models that people have: answers as these models write them."""

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from glmserve.chat.prompts.template.rendering import TemplateSource
from tests.support.llama_sources import template
from tests.support.scripted_engine import ScriptedEngine
from tests.support.served_template import served_template

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
ARGUMENTS = {"city": "北京", "days": 3}
PROPERTIES = {"city": {"type": "string"}, "days": {"type": "integer"}}
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": PROPERTIES}},
}
ASKED = [{"role": "user", "content": "How is the weather in Beijing?"}]


@dataclass(frozen=True)
class Said:
    """What a model writes: its reasoning as it marks it, and its call."""

    call: str
    thought: str = ""

    @property
    def reasoning(self) -> str:
        return THOUGHT if self.thought else ""


THOUGHT = "I look it up."
HERMES = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "北京", "days": 3}}\n</tool_call>'
CODER = (
    "<tool_call>\n<function=get_weather>\n<parameter=city>\n北京\n</parameter>\n<parameter=days>\n3\n</parameter>\n"
    "</function>\n</tool_call>"
)
GLM = (
    "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>北京</arg_value>\n<arg_key>days</arg_key>\n"
    "<arg_value>3</arg_value>\n</tool_call>"
)
MODELS = {
    "Qwen-Qwen2.5-7B-Instruct": Said(HERMES),
    "Qwen-Qwen3-0.6B": Said(HERMES, f"<think>\n{THOUGHT}\n</think>\n\n"),
    "Qwen-QwQ-32B": Said(HERMES, f"{THOUGHT}\n</think>\n\n"),
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use": Said(HERMES),
    "Qwen3-Coder": Said(CODER),
    "Qwen3.5-4B": Said(CODER, f"{THOUGHT}\n</think>\n\n"),
    "meta-llama-Llama-3.1-8B-Instruct": Said('{"name": "get_weather", "parameters": {"city": "北京", "days": 3}}'),
    "GLM-4.6": Said(GLM, f"\n<think>{THOUGHT}</think>\n"),
    "GLM-4.7-Flash": Said(GLM.replace("\n", ""), f"{THOUGHT}</think>"),
    "google-gemma-2-2b-it": Said('调用工具：get_weather\n参数：{"city": "北京", "days": 3}'),
}


@pytest.fixture(params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def engine(name: str) -> ScriptedEngine:
    return ScriptedEngine(reply=lambda _: MODELS[name].thought + MODELS[name].call, per_step=1, context_length=16384)


@pytest.fixture
async def http(name: str, engine: ScriptedEngine) -> AsyncIterator[httpx.AsyncClient]:
    text = template(name)
    source = TemplateSource(text, tuple(set(re.findall(r"<\|[^\s|<>]+\|>|<(?:start|end)_of_turn>", text))))
    async with served_template(source, engine) as client:
        yield client


async def _reply(http: httpx.AsyncClient, **fields: object) -> dict[str, Any]:
    reply = await http.post(CHAT, json={"messages": ASKED, "tools": [WEATHER], **fields})
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()["choices"][0]
    return found


async def test_a_call_that_the_model_writes_is_a_call_and_its_thought_is_reasoning(
    http: httpx.AsyncClient, name: str
) -> None:
    choice = await _reply(http)
    message = choice["message"]
    (call,) = message["tool_calls"]
    assert choice["finish_reason"] == "tool_calls"
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("get_weather", ARGUMENTS)
    assert message.get("reasoning_content", "") == MODELS[name].reasoning
    assert not message["content"]


async def test_a_stream_has_the_same_call_and_reasoning(http: httpx.AsyncClient, name: str) -> None:
    reply = await http.post(CHAT, json={"messages": ASKED, "tools": [WEATHER], "stream": True})
    chunks = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: {")]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    calls = [call["function"] for delta in deltas for call in delta.get("tool_calls") or ()]
    assert "".join(call.get("name") or "" for call in calls) == "get_weather"
    assert json.loads("".join(call.get("arguments") or "" for call in calls)) == ARGUMENTS
    assert "".join(delta.get("reasoning_content") or "" for delta in deltas) == MODELS[name].reasoning
    assert not "".join(delta.get("content") or "" for delta in deltas)


async def test_a_call_that_is_sent_back_stands_in_the_prompt_as_the_model_wrote_it(
    http: httpx.AsyncClient, engine: ScriptedEngine, name: str
) -> None:
    first = (await _reply(http))["message"]
    result = {"role": "tool", "tool_call_id": first["tool_calls"][0]["id"], "content": "sunny, 25 degrees"}
    engine.reply = lambda _: "It is sunny."
    await _reply(http, messages=[*ASKED, first, result])
    prompt = engine.submissions[-1].prompt
    assert "get_weather" in engine.submissions[0].prompt
    before, found, after = prompt.rpartition(MODELS[name].call)
    assert found, prompt
    assert "How is the weather" in before
    assert "sunny, 25 degrees" in after


async def test_an_answer_without_a_call_is_text(http: httpx.AsyncClient, engine: ScriptedEngine, name: str) -> None:
    engine.reply = lambda _: MODELS[name].thought + "It is sunny."
    choice = await _reply(http)
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["content"] == "It is sunny."
    assert not choice["message"].get("tool_calls")
