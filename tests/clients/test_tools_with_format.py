"""Programs that send tools and a format together, and graphs whose models answer each other: what they send."""

import json
from typing import Any

import pytest

from tests.clients.test_programs_by_their_bytes import Caller, caller

__all__ = ["caller"]

_SCHEMA: dict[str, Any] = {
    "properties": {
        "verdict": {"enum": ["good", "bad"], "title": "Verdict", "type": "string"},
        "stars": {"enum": [1, 2, 3], "title": "Stars", "type": "integer"},
    },
    "required": ["verdict", "stars"],
    "title": "Review",
    "type": "object",
}
_CLOSED = {**_SCHEMA, "additionalProperties": False}
_NOTHING = {"properties": {}, "title": "clock_args", "type": "object", "additionalProperties": False, "required": []}
_MODEL = {"model": "chatglm2-tiny"}
_USER = {"content": "q", "role": "user"}


def _format(schema: object, name: str = "Review", *, strict: bool = True) -> dict[str, object]:
    return {"type": "json_schema", "json_schema": {"name": name, "strict": strict, "schema": schema}}


def _tool(**more: object) -> dict[str, object]:
    return {"type": "function", "function": {"name": "clock", "description": "time", "parameters": _NOTHING, **more}}


CHATS: dict[str, dict[str, object]] = {
    "openai 3.3, parse": {
        **_MODEL,
        "messages": [_USER],
        "response_format": _format(_CLOSED),
        "stream": False,
        "tools": [_tool(strict=True)],
    },
    "LangChain 1.5, provider strategy": {
        **_MODEL,
        "messages": [_USER],
        "max_completion_tokens": 200,
        "response_format": _format(_SCHEMA, strict=False),
        "stream": False,
        "tools": [_tool(strict=True)],
    },
    "OpenAI Agents 0.24": {
        **_MODEL,
        "messages": [{"content": "i", "role": "system"}, _USER],
        "response_format": _format(_CLOSED, "final_output"),
        "tools": [_tool(strict=True)],
    },
    "pydantic-ai 2.38, NativeOutput": {
        **_MODEL,
        "messages": [_USER],
        "response_format": _format(_CLOSED),
        "stream": False,
        "tool_choice": "auto",
        "tools": [_tool(description="")],
    },
}
RESPONSES: dict[str, dict[str, object]] = {
    "OpenAI Agents 0.24": {
        **_MODEL,
        "include": [],
        "input": [_USER],
        "instructions": "i",
        "text": {"format": {"type": "json_schema", "name": "final_output", "schema": _CLOSED, "strict": True}},
        "tools": [{"name": "clock", "parameters": _NOTHING, "strict": True, "type": "function", "description": "time"}],
    },
    "instructor 1.17, RESPONSES_TOOLS": {
        **_MODEL,
        "input": [_USER],
        "text": {"format": {"type": "json_schema", "name": "Review", "strict": True, "schema": _CLOSED}},
        "tool_choice": {"type": "function", "name": "Review"},
        "tools": [{"type": "function", "name": "Review", "parameters": _CLOSED, "description": "Correctly extracted"}],
    },
}


@pytest.mark.parametrize("program", CHATS)
def test_a_chat_is_a_call_or_an_object(caller: Caller, program: str) -> None:
    reply = caller.post("/v1/chat/completions", CHATS[program])
    assert reply.status_code == 200, reply.text
    (choice,) = reply.json()["choices"]
    if choice["finish_reason"] == "tool_calls":
        assert choice["message"]["tool_calls"][0]["function"] == {"name": "clock", "arguments": "{}"}
    else:
        assert set(json.loads(choice["message"]["content"])) == {"verdict", "stars"}


@pytest.mark.parametrize("program", RESPONSES)
def test_a_response_is_a_call_or_an_object(caller: Caller, program: str) -> None:
    reply = caller.post("/v1/responses", RESPONSES[program])
    assert reply.status_code == 200, reply.text
    (item,) = reply.json()["output"]
    if item["type"] == "message":
        assert set(json.loads(item["content"][0]["text"])) == {"verdict", "stars"}
    elif item["name"] == "Review":
        assert set(json.loads(item["arguments"])) == {"verdict", "stars"}
    else:
        assert (item["name"], item["arguments"]) == ("clock", "{}")


@pytest.mark.parametrize(
    "messages",
    [[{"role": "system", "content": "s"}], [_USER, {"role": "assistant", "content": "a"}]],
    ids=["LangChain, system alone", "LangGraph, the second of two models"],
)
def test_a_model_answers_where_no_user_spoke_last(caller: Caller, messages: list[object]) -> None:
    reply = caller.post("/v1/chat/completions", {**_MODEL, "messages": messages, "stream": False})
    assert reply.status_code == 200, reply.text
    assert reply.json()["choices"][0]["message"]["content"]
