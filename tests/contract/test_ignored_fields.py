"""Fields that the server does not know: left out and told, or refused where it is set so."""

import json
import logging

import httpx
import pytest

from glmserve.bootstrap.app import ApiOptions
from tests.support.api import MODEL, connect, make_app
from tests.support.scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

HEADER = "x-glmserve-ignored-fields"
SAID = [{"role": "user", "content": "你好"}]
CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
BODIES: dict[str, dict[str, object]] = {
    CHAT: {"messages": SAID},
    "/v1/completions": {"prompt": "你好"},
    RESPONSES: {"input": "你好"},
    f"{RESPONSES}/input_tokens": {"input": "你好"},
    MESSAGES: {"messages": SAID, "max_tokens": 50},
    f"{MESSAGES}/count_tokens": {"messages": SAID},
    "/tokenize": {"prompt": "你好"},
    "/detokenize": {"tokens": [5]},
}
NESTED = (
    (CHAT, "response_format", {"type": "text", "surprise": 1}),
    (CHAT, "structured_outputs", {"regex": "a", "surprise": 1}),
    (RESPONSES, "text", {"surprise": 1}),
)


@pytest.mark.parametrize("path", BODIES)
async def test_an_unknown_field_is_left_out_and_reported(http: httpx.AsyncClient, path: str) -> None:
    reply = await http.post(path, json={**BODIES[path], "surprise": {"a": [1]}, "temprature": 3, "nothing": None})
    assert reply.status_code == 200, reply.text
    assert reply.headers[HEADER] == "surprise, temprature"
    assert HEADER not in (await http.post(path, json=BODIES[path])).headers


@pytest.mark.parametrize("path", BODIES)
async def test_an_unknown_field_is_refused_where_the_server_is_strict(engine: ScriptedEngine, path: str) -> None:
    async with connect(make_app(engine, ApiOptions(strict_fields=True))) as http:
        reply = await http.post(path, json={**BODIES[path], "surprise": 1})
        assert reply.status_code == 400
        assert "surprise is not a field that this server knows" in reply.text
        assert (await http.post(path, json={**BODIES[path], "surprise": None})).status_code == 200
    assert all("surprise" not in one.prompt for one in engine.submissions)


@pytest.mark.parametrize(("path", "field", "value"), NESTED)
async def test_one_within_a_field_is_reported_by_its_path(
    engine: ScriptedEngine, http: httpx.AsyncClient, path: str, field: str, value: object
) -> None:
    reply = await http.post(path, json={**BODIES[path], field: value})
    assert (reply.status_code, reply.headers[HEADER]) == (200, f"{field}.surprise")
    async with connect(make_app(engine, ApiOptions(strict_fields=True))) as strict:
        assert (await strict.post(path, json={**BODIES[path], field: value})).status_code == 400


async def test_a_stream_and_an_error_tell_it_too(http: httpx.AsyncClient) -> None:
    streamed = await http.post(CHAT, json={"messages": SAID, "stream": True, "surprise": 1})
    failed = await http.post(CHAT, json={"messages": SAID, "temperature": 9, "surprise": 1})
    assert [reply.headers[HEADER] for reply in (streamed, failed)] == ["surprise", "surprise"]


async def test_names_cannot_forge_a_header_or_fill_it(http: httpx.AsyncClient) -> None:
    names = ["a\r\nset-cookie: x", "b, c", "字", "x" * 10**6, *(f"n{i}" for i in range(5000))]
    reply = await http.post(CHAT, json={"messages": SAID, **dict.fromkeys(names, 1)})
    assert reply.status_code == 200
    assert "set-cookie" not in reply.headers
    told = reply.headers[HEADER]
    assert len(told.split(", ")) == 32
    assert {"b%2C c", "a%0D%0Aset-cookie: x"} <= set(told.split(", "))
    assert len(told) < 1000


async def test_each_name_is_logged_once(http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await http.post(CHAT, json={"messages": SAID, "surprise": 1, "new\nline": 2})
    lines = [record.getMessage() for record in caplog.records if "ignored" in record.getMessage()]
    assert len(lines) == 2
    assert not any("\n" in line for line in lines)


NEUTRAL = [
    (CHAT, {"reasoning": {"effort": None}}),
    (CHAT, {"reasoning": {"effort": "none", "summary": None}}),
    (CHAT, {"chat_template_kwargs": {"thinking": False, "enable_thinking": False}}),
    (CHAT, {"chat_template_kwargs": {"thinking": True, "enable_thinking": True, "reasoning_effort": "high"}}),
    (CHAT, {"thinking": {"type": "disabled", "budget_tokens": 0}}),
    (CHAT, {"web_search_options": {}}),
    (CHAT, {"web_search_options": {"user_location": {"city": None}}}),
    (CHAT, {"modalities": ["text"], "documents": [], "prediction": None, "lora": [None]}),
    (CHAT, {"length_penalty": 1, "typical_p": 1.0, "best_of": 1, "use_beam_search": False, "grammar": ""}),
    (RESPONSES, {"reasoning": {"effort": None, "summary": None}, "context_management": []}),
    (MESSAGES, {"thinking": {"type": "disabled", "budget_tokens": 0}, "context_management": {"edits": []}}),
]
ASKING = [
    (CHAT, {"chat_template_kwargs": {"thinking": False, "documents": ["x"]}}),
    (CHAT, {"best_of": True}),
    (CHAT, {"modalities": ["text", "audio"]}),
    (CHAT, {"structured_outputs": {"structural_tag": {"a": 1}}}),
    (RESPONSES, {"conversation": {"id": "conv_1"}}),
    ("/v1/completions", {"messages": SAID}),
]


@pytest.mark.parametrize(("path", "fields"), NEUTRAL)
async def test_a_neutral_value_is_accepted_at_any_depth(
    http: httpx.AsyncClient, path: str, fields: dict[str, object]
) -> None:
    reply = await http.post(path, json={**BODIES[path], **fields})
    assert reply.status_code == 200, reply.text
    assert HEADER not in reply.headers


@pytest.mark.parametrize(("path", "fields"), ASKING)
async def test_what_would_change_the_answer_is_refused(
    http: httpx.AsyncClient, path: str, fields: dict[str, object]
) -> None:
    reply = await http.post(path, json={**BODIES[path], **fields})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "unsupported_parameter")


async def test_a_reply_can_be_sent_back(http: httpx.AsyncClient) -> None:
    """Clients keep what they got, and send it with the next question."""
    chat = (await http.post(CHAT, json={"messages": SAID})).json()
    again = [*SAID, {**chat["choices"][0]["message"], "finish_reason": "stop", "index": 0}, *SAID]
    assert (await http.post(CHAT, json={"messages": again})).status_code == 200

    message = (await http.post(MESSAGES, json=BODIES[MESSAGES])).json()
    reply = await http.post(MESSAGES, json={**BODIES[MESSAGES], "messages": [*SAID, message, *SAID]})
    assert reply.status_code == 200, reply.text

    response = (await http.post(RESPONSES, json={**BODIES[RESPONSES], "metadata": {"a": "b"}})).json()
    items = (await http.get(f"{RESPONSES}/{response['id']}/input_items", params={"order": "asc"})).json()["data"]
    reply = await http.post(RESPONSES, json={"input": [*items, *response["output"], *SAID]})
    assert reply.status_code == 200, reply.text

    legacy = (await http.post("/chatglm", json={"prompt": "你好"})).json()
    assert (await http.post("/chatglm", json={**legacy, "prompt": "你好"})).status_code == 200


async def test_a_call_can_be_sent_back(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    engine.reply = lambda _: 'f({"a": 1})'
    function = {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}
    flat = {"tools": [{"type": "function", **function}], "tool_choice": "required"}
    response = (await http.post(RESPONSES, json={**BODIES[RESPONSES], **flat})).json()
    calls = [item for item in response["output"] if item["type"] == "function_call"]
    results = [{"type": "function_call_output", "call_id": call["call_id"], "output": "2"} for call in calls]
    reply = await http.post(RESPONSES, json={"input": [*SAID, *response["output"], *results, *SAID]})
    assert reply.status_code == 200, reply.text


async def test_a_whole_response_can_be_the_next_request(http: httpx.AsyncClient) -> None:
    tool = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}
    asked = {"input": "你好", "tools": [tool], "tool_choice": "none", "text": {"format": {"type": "text"}}}
    response = (await http.post(RESPONSES, json={**asked, "truncation": "auto"})).json()
    reply = await http.post(RESPONSES, json={**response, "input": "你好", "model": MODEL})
    assert reply.status_code == 200, json.dumps(response)
    told = set(reply.headers[HEADER].split(", "))
    assert told <= {"id", "object", "created_at", "status", "output", "usage", "completed_at", "error", "billing"}
