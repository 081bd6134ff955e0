"""Chat bodies as Dify and One API send them, and their ways of reading the replies.

Dify: its plugin OpenAI-API-compatible and the base class in its SDK. One API: the body that it writes anew where a
model is mapped or usage is enforced, as Go writes it, and its readers of streams and errors.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from glmserve.bootstrap.app import ApiOptions
from tests.support.api import MODEL, connect, make_app
from tests.support.scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "get_weather", "description": "查询天气", "parameters": PARAMETERS}
CALLS = '我查一下。\n调用工具：get_weather\n参数：{"city": "北京"}\n调用工具：get_weather\n参数：{"city": "上海"}'


@dataclass
class Read:
    """What Dify makes of a stream."""

    text: str = ""
    calls: list[dict[str, str]] = field(default_factory=list)
    usage: dict[str, int] = field(default_factory=dict)
    finish: str | None = None
    wrong: str = ""


def read_as_dify(body: str, *, form: str = "tool_call") -> Read:
    """Cut the stream at empty lines and read chunk by chunk, as the plugin does.

    A call is continued where its name is empty. Ids and types have to be strings wherever the keys are there.
    """
    read = Read()
    for piece in body.split("\n\n"):
        line = piece.strip()
        if not line or line.startswith(":"):
            continue
        data = line.removeprefix("data: ").lstrip()
        if data == "[DONE]":
            continue
        chunk = json.loads(data)
        read.usage = chunk.get("usage") or read.usage
        if not chunk["choices"]:
            continue
        choice = chunk["choices"][0]
        read.finish = choice.get("finish_reason")
        delta = choice["delta"]
        read.text += delta.get("content") or ""
        head = {"id": "tool_call_id", "type": "function"}
        one = [{**head, "function": delta["function_call"]}] if "function_call" in delta else []
        for call in (delta.get("tool_calls") if form == "tool_call" else one) or ():
            values = (call.get("id", ""), call.get("type", ""), *call.get("function", {}).values())
            read.wrong += "".join(f"{call} " for value in values if not isinstance(value, str))
            name, arguments = (call["function"].get(key, "") for key in ("name", "arguments"))
            if name:
                read.calls.append({"name": name, "arguments": ""})
            read.calls[-1]["arguments"] += arguments
    return read


def dify_body(**more: object) -> dict[str, Any]:
    """A body as the plugin makes it of the parameters that its page offers."""
    return {
        "model": MODEL, "stream": True, "temperature": 0.7, "top_p": 1, "top_k": 1, "frequency_penalty": 0,
        "presence_penalty": 0, "max_tokens": 512, "stream_options": {"include_usage": True},
        "messages": [{"role": "system", "content": "你是助手。"}, {"role": "user", "content": "北京和上海的天气？"}],
        **more, "user": "3f4c",
    }  # fmt: skip


async def test_dify_streams_and_counts(http: httpx.AsyncClient) -> None:
    reply = await http.post("/v1/chat/completions", json=dify_body(stop=["\nHuman:"]))
    read = read_as_dify(reply.text)
    assert (reply.status_code, read.finish, read.wrong) == (200, "stop", "")
    assert read.text
    assert read.usage["total_tokens"] == read.usage["prompt_tokens"] + read.usage["completion_tokens"]


@pytest.mark.parametrize("per_step", [1, 1000])
async def test_dify_adds_up_the_tools_of_a_stream(
    http: httpx.AsyncClient, engine: ScriptedEngine, per_step: int
) -> None:
    engine.reply, engine.per_step = lambda _: CALLS, per_step
    body = dify_body(tool_choice="auto", tools=[{"type": "function", "function": FUNCTION}])
    read = read_as_dify((await http.post("/v1/chat/completions", json=body)).text)
    assert (read.wrong, read.finish, read.text) == ("", "tool_calls", "我查一下。")
    assert [json.loads(call["arguments"]) for call in read.calls] == [{"city": "北京"}, {"city": "上海"}]


async def test_dify_reads_a_reply_at_once_and_sends_the_calls_back(
    http: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    engine.reply = lambda _: CALLS
    body = dify_body(stream=False, tools=[{"type": "function", "function": FUNCTION}], tool_choice="auto")
    del body["stream_options"]
    reply = (await http.post("/v1/chat/completions", json=body)).json()
    message = reply["choices"][0]["message"]
    assert message["content"] == "我查一下。"
    made = [
        {"id": call["id"], "type": call["type"],
         "function": {"name": call["function"]["name"], "arguments": call["function"]["arguments"]}}
        for call in message["tool_calls"]
    ]  # fmt: skip
    results = [{"role": "tool", "content": "晴", "tool_call_id": call["id"]} for call in made]
    engine.reply = lambda _: "都是晴天。"
    asked = [*body["messages"], {"role": "assistant", "content": "", "tool_calls": made}, *results]
    answer = await http.post("/v1/chat/completions", json={**body, "messages": asked})
    assert answer.json()["choices"][0]["message"]["content"] == "都是晴天。"
    prompt = engine.submissions[-1].prompt
    assert prompt.count("get_weather") >= 3
    assert prompt.count("晴") == 2


async def test_dify_uses_the_older_form_of_calls(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    engine.reply = lambda _: '调用工具：get_weather\n参数：{"city": "北京"}'
    read = read_as_dify(
        (await http.post("/v1/chat/completions", json=dify_body(functions=[FUNCTION]))).text, form="old"
    )
    assert (read.wrong, read.calls) == ("", [{"name": "get_weather", "arguments": '{"city": "北京"}'}])
    called = {"name": "get_weather", "arguments": '{"city": "北京"}'}
    history = [
        {"role": "user", "content": "天气？"}, {"role": "assistant", "content": "", "function_call": called},
        {"role": "function", "content": "晴", "name": "get_weather"},
    ]  # fmt: skip
    reply = await http.post("/v1/chat/completions", json=dify_body(functions=[FUNCTION], messages=history))
    assert reply.status_code == 200, reply.text


@pytest.mark.parametrize("enabled", [True, False])
async def test_difys_switch_of_thinking_in_its_extended_mode(http: httpx.AsyncClient, *, enabled: bool) -> None:
    """Sent to each model, also to one that cannot think."""
    thinking = {
        "chat_template_kwargs": {"enable_thinking": enabled, "thinking": enabled},
        "thinking": {"type": "enabled" if enabled else "disabled"}, "enable_thinking": enabled,
        "reasoning_format": "auto",
    }  # fmt: skip
    reply = await http.post("/v1/chat/completions", json=dify_body(**thinking))
    assert (reply.status_code, read_as_dify(reply.text).finish) == (200, "stop")
    checked = {"model": MODEL, "max_tokens": 5, "thinking": {"type": "disabled"}}
    assert (await http.post("/v1/chat/completions", json={**checked, "messages": [USER]})).status_code == 200


@pytest.mark.parametrize("named", [True, False])
async def test_difys_structured_output(http: httpx.AsyncClient, engine: ScriptedEngine, *, named: bool) -> None:
    """The schema with a name, as its workflow makes it, and with the schema alone under its key."""
    engine.reply = lambda _: '{"city": "北京"}'
    schema = {"schema": PARAMETERS, **({"name": "llm_response"} if named else {})}
    body = dify_body(stream=False, response_format={"type": "json_schema", "json_schema": schema})
    del body["stream_options"]
    reply = await http.post("/v1/chat/completions", json=body)
    assert reply.status_code == 200, reply.text
    assert json.loads(reply.json()["choices"][0]["message"]["content"]) == {"city": "北京"}


USER = {"role": "user", "content": "Output only your specific model name with no additional text."}


@pytest.fixture
async def strict(engine: ScriptedEngine) -> AsyncIterator[httpx.AsyncClient]:
    async with connect(make_app(engine, ApiOptions(strict_fields=True))) as http:
        yield http


def go(value: object) -> str:
    """JSON as Go writes it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


async def posted(http: httpx.AsyncClient, body: object) -> httpx.Response:
    return await http.post("/v1/chat/completions", content=go(body), headers={"Content-Type": "application/json"})


async def test_one_api_tests_a_channel(strict: httpx.AsyncClient) -> None:
    reply = (await posted(strict, {"messages": [USER], "model": MODEL})).json()
    assert isinstance(reply["choices"][0]["message"]["content"], str)


async def test_one_api_relays_a_stream_and_charges_by_its_usage(strict: httpx.AsyncClient) -> None:
    body = {
        "messages": [{"role": "user", "content": "<b>你好 & 再见</b>"}], "model": MODEL, "frequency_penalty": 0,
        "max_tokens": 100, "n": 1, "presence_penalty": 0, "seed": 42, "stop": ["\n\n"], "stream": True,
        "stream_options": {"include_usage": True}, "temperature": 0, "top_p": 1, "user": "u1",
    }  # fmt: skip
    reply = await posted(strict, body)
    text, usage, done = "", None, False
    for line in reply.text.split("\n"):
        if len(line) < 6 or not line.startswith(("data: ", "[DONE]")):
            continue
        if line[6:].startswith("[DONE]"):
            done = True
            continue
        chunk = json.loads(line[6:])
        text += "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])
        usage = chunk.get("usage") or usage
    assert done
    assert "<b>你好 & 再见</b>" in text
    assert usage is not None
    assert all(type(usage[key]) is int for key in ("prompt_tokens", "completion_tokens", "total_tokens"))


async def test_one_api_leaves_out_what_is_null_or_nothing(strict: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    """An earlier call has no content then, a function no parameters, and the options of a stream nothing."""
    engine.reply = lambda _: "好。"
    call = {"id": "c1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    body = {
        "messages": [
            {"role": "user", "content": "几点？"}, {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "content": "八点", "tool_call_id": "c1"},
        ],
        "model": MODEL, "stream": True, "stream_options": {}, "tool_choice": "auto",
        "tools": [{"type": "function", "function": {"description": "时间", "name": "now"}}],
    }  # fmt: skip
    reply = await posted(strict, body)
    assert (reply.status_code, read_as_dify(reply.text).text) == (200, "好。"), reply.text


@pytest.mark.parametrize(
    "wrong", [{"temperature": 9}, {"messages": []}, {"model": "gpt-9"}, {"max_tokens": "x"}, {"stop": [1]}]
)
async def test_one_api_reads_errors_into_strings(http: httpx.AsyncClient, wrong: dict[str, object]) -> None:
    """A value of another type would cost it the message."""
    reply = await posted(http, {"messages": [USER], "model": MODEL, **wrong})
    error = reply.json()["error"]
    assert 400 <= reply.status_code < 500
    assert error["message"]
    assert all(isinstance(error[key], str | None) for key in ("message", "type", "param"))
    others = ("message", "msg", "err", "error_msg", "header", "response")
    assert [key for key in others if key in reply.json()] == []
