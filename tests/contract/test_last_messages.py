"""Conversations that end with no question, as graphs of agents and front ends send them: they are answered."""

from typing import Any

import httpx
import pytest

from tests.support.response_events import create
from tests.support.scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

USER, ASSISTANT, SYSTEM = ({"role": role, "content": role[0]} for role in ("user", "assistant", "system"))
TOOL = {"name": "now", "parameters": {"type": "object", "properties": {}}}
ENDINGS = [
    ([SYSTEM], "[Round 1]\n\n问：s\n\n答："),
    ([USER, SYSTEM], "[Round 1]\n\n问：u\n\ns\n\n答："),
    ([SYSTEM, USER, ASSISTANT], "[Round 1]\n\n问：s\n\nu\n\n答：a\n\n[Round 2]\n\n问：\n\n答："),
    ([USER, ASSISTANT, SYSTEM], "[Round 1]\n\n问：u\n\n答：a\n\n[Round 2]\n\n问：s\n\n答："),
]

endings = pytest.mark.parametrize(("messages", "prompt"), ENDINGS)


@endings
@pytest.mark.parametrize("stream", [False, True])
async def test_a_chat_is_answered(
    http: httpx.AsyncClient, engine: ScriptedEngine, messages: list[object], prompt: str, stream: bool
) -> None:
    reply = await http.post("/v1/chat/completions", json={"messages": messages, "stream": stream})
    assert reply.status_code == 200, reply.text
    assert engine.submissions[0].prompt == prompt


@endings
async def test_a_response_is_made(
    http: httpx.AsyncClient, engine: ScriptedEngine, messages: list[Any], prompt: str
) -> None:
    await create(http, input=messages)
    assert engine.submissions[0].prompt == prompt
    await create(http, input=messages, truncation="auto")
    assert engine.submissions[1].prompt == prompt


async def test_tools_are_listed_where_there_is_only_system_text(
    http: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    body = {"messages": [SYSTEM], "tools": [{"type": "function", "function": TOOL}]}
    assert (await http.post("/v1/chat/completions", json=body)).status_code == 200
    assert engine.submissions[0].prompt.startswith("[Round 1]\n\n问：s\n\n你可以使用下面的工具：")


@pytest.mark.parametrize("content", [[], [SYSTEM]])
async def test_a_message_is_answered_that_has_system_text_alone(
    http: httpx.AsyncClient, engine: ScriptedEngine, content: list[object]
) -> None:
    body = {"messages": content, "max_tokens": 9, **({} if content else {"system": "s"})}
    reply = await http.post("/v1/messages", json=body)
    assert reply.status_code == 200, reply.text
    assert engine.submissions[0].prompt == "[Round 1]\n\n问：s\n\n答："


async def test_a_message_goes_on_with_its_last_one_beside_tools(
    http: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    tool = {"name": "now", "input_schema": TOOL["parameters"]}
    reply = await http.post("/v1/messages", json={"messages": [USER, ASSISTANT], "tools": [tool], "max_tokens": 9})
    assert reply.status_code == 200, reply.text
    assert engine.submissions[0].prompt.endswith("答：a")
    assert engine.submissions[0].params.grammar is None


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
async def test_calls_without_their_results_are_refused(http: httpx.AsyncClient, path: str) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    bodies: dict[str, object] = {
        "/v1/chat/completions": {"messages": [USER, {"role": "assistant", "tool_calls": [call]}]},
        "/v1/responses": {"input": [USER, {"type": "function_call", "call_id": "c", "name": "now", "arguments": "{}"}]},
    }
    reply = await http.post(path, json=bodies[path])
    assert reply.status_code == 400
    assert "results of the last message's tool calls are missing" in reply.json()["error"]["message"]
