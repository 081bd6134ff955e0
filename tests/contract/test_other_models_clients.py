"""Programs that were made for another vendor's models: what a text model can do of what they ask, it does."""

from typing import Any

import httpx
import pytest

from tests.support.agent_bodies import CLAUDE_CODE, CODEX
from tests.support.message_events import gather, read_message_events
from tests.support.response_events import check_order, create, read_events
from tests.support.scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

IGNORED = "x-glmserve-ignored-tools"
USER = {"role": "user", "content": "几点了？"}
NOW = {"type": "function", "function": {"name": "now"}}


async def test_claude_code_is_answered(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    engine.reply = lambda _: '调用工具：Bash\n参数：{"command": "ls"}'
    reply = await http.post("/v1/messages?beta=true", json=CLAUDE_CODE)
    assert reply.status_code == 200, reply.text
    message = gather(read_message_events(reply.text))
    assert message["content"][0] == {
        "type": "tool_use",
        "id": message["content"][0]["id"],
        "name": "Bash",
        "input": {"command": "ls"},
    }
    prompt = engine.submissions[0].prompt
    assert prompt.startswith("[Round 1]\n\n问：You are an agent.\nBe brief.\n\n你可以使用下面的工具：")
    assert prompt.endswith(
        '调用工具：Bash\n参数：{"command": "echo hi"}\n\n[Round 2]\n\n问：工具 Bash 的结果：\nhi\n\n答：'
    )
    for gone in ("cc_version", "They want a greeting.", "ZGF0YQ"):
        assert gone not in prompt
    assert IGNORED not in reply.headers


async def test_codex_is_answered(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    engine.reply = lambda _: '调用工具：exec_command\n参数：{"cmd": "ls"}'
    reply = await http.post("/v1/responses", json=CODEX)
    assert reply.status_code == 200, reply.text
    response = check_order(read_events(reply.text))
    assert [(item["type"], item["name"]) for item in response["output"]] == [("function_call", "exec_command")]
    assert [tool["name"] for tool in response["tools"]] == ["exec_command"]
    assert reply.headers[IGNORED] == "multi_agent_v1, apply_patch, web_search"
    prompt = engine.submissions[0].prompt
    assert prompt.endswith(
        '参数：{"cmd": "echo hi"}\n\n[Round 2]\n\n问：工具 exec_command 的结果：\nOutput:\nhi\n\n\n答：'
    )
    assert "close_agent" not in prompt


FOREIGN: list[tuple[str, dict[str, Any], str]] = [
    (
        "/v1/chat/completions",
        {
            "messages": [USER],
            "tools": [{"type": "web_search", "web_search": {}}, NOW, {"type": "custom", "custom": {}}],
        },
        "web_search, custom",
    ),
    ("/v1/responses", {"input": "x", "tools": [{"type": "code_interpreter", "container": {}}]}, "code_interpreter"),
    (
        "/v1/messages",
        {"messages": [USER], "max_tokens": 9, "tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        "web_search",
    ),
    (
        "/v1/messages",
        {"messages": [USER], "max_tokens": 9, "tools": [{"type": "bash_20250124", "name": "bash\r\nx: y" + "z" * 90}]},
        "bash%0D%0Ax: y" + "z" * 90,
    ),
]


@pytest.mark.parametrize(("path", "body", "told"), FOREIGN)
async def test_tools_of_another_vendor_are_left_out_and_a_header_says_so(
    http: httpx.AsyncClient, engine: ScriptedEngine, path: str, body: dict[str, Any], told: str
) -> None:
    for stream in (False, True):
        reply = await http.post(path, json={**body, "stream": stream})
        assert reply.status_code == 200, reply.text
        assert reply.headers[IGNORED] == told
    assert "web_search" not in engine.submissions[0].prompt
    assert ("now" in engine.submissions[0].prompt) == (NOW in body["tools"])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [USER], "tools": [{"type": "web_search"}], "tool_choice": "required"}),
        ("/v1/responses", {"input": "x", "tools": [{"type": "web_search"}], "tool_choice": {"type": "web_search"}}),
        (
            "/v1/messages",
            {
                "messages": [USER], "max_tokens": 9, "tools": [{"type": "web_search_20250305", "name": "web_search"}],
                "tool_choice": {"type": "tool", "name": "web_search"},
            },
        ),
    ],
)  # fmt: skip
async def test_a_call_of_such_a_tool_cannot_be_requested(http: httpx.AsyncClient, path: str, body: object) -> None:
    assert (await http.post(path, json=body)).status_code == 400


THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "x"}


@pytest.mark.parametrize(
    "thinking", [{"type": "enabled", "budget_tokens": 1024}, {"type": "adaptive"}, {"type": "disabled"}]
)
async def test_thinking_has_no_effect(http: httpx.AsyncClient, engine: ScriptedEngine, thinking: object) -> None:
    body = {"messages": [USER, {"role": "assistant", "content": [THOUGHT]}], "max_tokens": 9, "thinking": thinking}
    reply = await http.post("/v1/messages", json=body)
    assert reply.status_code == 200, reply.text
    assert engine.submissions[0].prompt == "[Round 1]\n\n问：几点了？\n\n答："


async def test_what_anothers_server_did_is_dropped_and_documents_of_text_are_read(
    http: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    searched = {"type": "web_search_tool_result", "tool_use_id": "s", "content": []}
    answer = [
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
        searched,
        {"type": "text", "text": "b"},
    ]
    plain = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "文件"}}
    parts = {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "段落"}]}}
    messages = [USER, {"role": "assistant", "content": answer}, {"role": "user", "content": [plain, parts]}]
    reply = await http.post("/v1/messages", json={"messages": messages, "max_tokens": 9})
    assert reply.status_code == 200, reply.text
    assert engine.submissions[0].prompt.endswith("答：b\n\n[Round 2]\n\n问：文件\n段落\n\n答：")
    image = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": ""}}
    reply = await http.post("/v1/messages", json={"messages": [{"role": "user", "content": [image]}], "max_tokens": 9})
    assert reply.status_code == 400
    assert "messages[0].content[0].source has the type 'base64'" in reply.json()["error"]["message"]


@pytest.mark.parametrize("given", [{"city": "北京"}, '{"city": "北京"}'])
async def test_the_input_of_a_tool_may_be_json_text(
    http: httpx.AsyncClient, engine: ScriptedEngine, given: object
) -> None:
    use = {"type": "tool_use", "id": "t", "name": "f", "input": given}
    result = {"type": "tool_result", "tool_use_id": "t", "content": None, "is_error": None}
    messages = [USER, {"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
    reply = await http.post("/v1/messages", json={"messages": messages, "max_tokens": 9})
    assert reply.status_code == 200, reply.text
    assert '参数：{"city": "北京"}' in engine.submissions[0].prompt


CALLS: list[tuple[dict[str, object], str, str]] = [
    ({"type": "function_call", "name": "f", "arguments": {"a": "北"}}, "function_call_output", 'f\n参数：{"a": "北"}'),
    (
        {"type": "custom_tool_call", "name": "f", "input": "*** 补丁"},
        "custom_tool_call_output",
        'f\n参数：{"input": "*** 补丁"}',
    ),
    (
        {"type": "local_shell_call", "status": "completed", "action": {"type": "exec", "command": ["ls"]}},
        "local_shell_call_output",
        'shell\n参数：{"type": "exec", "command": ["ls"]}',
    ),
]


@pytest.mark.parametrize(("call", "output", "told"), CALLS)
async def test_calls_of_every_kind_are_returned_as_calls(
    http: httpx.AsyncClient, engine: ScriptedEngine, call: dict[str, object], output: str, told: str
) -> None:
    items = [USER, {**call, "call_id": "c"}, {"type": output, "call_id": "c", "output": "x"}]
    first = await create(http, input=items)
    assert f"调用工具：{told}" in engine.submissions[0].prompt
    await create(http, input="y", previous_response_id=first["id"])
    assert f"调用工具：{told}" in engine.submissions[1].prompt


@pytest.mark.parametrize("kind", ["reasoning", "web_search_call", "mcp_list_tools", "computer_call"])
async def test_what_another_model_thought_is_dropped(
    http: httpx.AsyncClient, engine: ScriptedEngine, kind: str
) -> None:
    await create(http, input=[USER, {"type": kind, "id": "x", "summary": []}], reasoning={"effort": "high"})
    assert engine.submissions[0].prompt == "[Round 1]\n\n问：几点了？\n\n答："
    reply = await http.post("/v1/responses", json={"input": [{"type": kind}]})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "input")


async def test_a_refusal_is_what_was_said(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    said = {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "不行"}]}
    await create(http, input=[USER, said, USER])
    assert "答：不行\n" in engine.submissions[0].prompt
