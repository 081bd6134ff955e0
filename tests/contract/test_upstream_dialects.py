"""Other dialects, and tasks, of a model that another server runs: translated to its chat API and back."""

import json

import httpx
import pytest
from fastapi import FastAPI

from glmserve.bootstrap.app import ApiOptions
from tests.support.scripted_upstream import (
    CHAT,
    NAME,
    TASK,
    THERE,
    ScriptedUpstream,
    chunk,
    fails,
    reply,
    says,
    stream,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def app(upstream: ScriptedUpstream) -> FastAPI:
    return upstream.app(options=ApiOptions(tasks={TASK.id: TASK}))


async def test_messages_are_translated(http: httpx.AsyncClient, upstream: ScriptedUpstream) -> None:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":'}}
    more = {"index": 0, "function": {"arguments": ' "北京"}'}}
    parts = (chunk(content="看"), chunk(tool_calls=[call]), chunk(tool_calls=[more]), chunk("tool_calls"))
    upstream.script = lambda _: stream(*parts)
    tool = {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
    asked = {
        "max_tokens": 50, "system": "短", "messages": [{"role": "user", "content": "天气"}], "tools": [tool],
        "tool_choice": {"type": "tool", "name": "weather"}, "stop_sequences": ["！"],
    }  # fmt: skip
    message = (await http.post("/v1/messages", json=asked)).json()
    text, use = message["content"]
    assert (text["text"], use["name"], use["input"]) == ("看", "weather", {"city": "北京"})
    assert (message["model"], message["stop_reason"]) == (NAME, "tool_use")
    usage = message["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"]) == (3, 8, 3)
    body = upstream.requests[0].body
    assert body["messages"] == [{"role": "system", "content": "短"}, {"role": "user", "content": "天气"}]
    assert body["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert (body["max_tokens"], body["stop"], body["stream"]) == (50, ["！"], True)
    assert not {"temperature", "top_p", "top_k", "repetition_penalty", "seed"} & set(body)


async def test_responses_are_translated_and_continued(http: httpx.AsyncClient, upstream: ScriptedUpstream) -> None:
    upstream.script = lambda _: says("一", "二")
    first = (await http.post("/v1/responses", json={"model": NAME, "input": "数", "temperature": 0.5})).json()
    assert first["output"][0]["content"][0]["text"] == "一二"
    assert (first["usage"]["total_tokens"], first["temperature"], first["top_p"]) == (14, 0.5, None)
    later = {"input": "再数", "previous_response_id": first["id"], "stream": True}
    text = (await http.post("/v1/responses", json=later)).text
    deltas = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    assert "".join(one["delta"] for one in deltas if one["type"] == "response.output_text.delta") == "一二"
    asked = [one.body for one in upstream.requests]
    assert [message["content"] for message in asked[1]["messages"]] == ["数", "一二", "再数"]
    assert asked[0]["temperature"] == 0.5
    assert "temperature" not in asked[1]


async def test_a_schema_is_asked_for_in_the_upstreams_field(
    http: httpx.AsyncClient, upstream: ScriptedUpstream
) -> None:
    upstream.script = lambda _: says("{}")
    text = {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object", "properties": {}}}}
    assert (await http.post("/v1/responses", json={"input": "x", "text": text})).status_code == 200
    form = upstream.requests[0].body["response_format"]
    assert form["type"] == "json_schema"


@pytest.mark.parametrize(
    ("path", "sampled"), [("/chatglm", (0.95, 0.7)), ("/", (0.95, 0.7)), ("/baichuan", (None, None))]
)
async def test_legacy_addresses_are_translated(
    http: httpx.AsyncClient, upstream: ScriptedUpstream, path: str, sampled: tuple[float | None, float | None]
) -> None:
    upstream.script = lambda _: says("[[训练时间]]", "好")
    answer = await http.post(path, json={"prompt": "再问", "history": [["问", "答"]], "max_length": 100})
    expected = "[[训练时间]]好" if path == "/baichuan" else "2023年好"
    assert answer.json() == {
        "response": expected,
        "history": [["问", "答"], ["再问", expected]],
        "status": 200,
        "time": "2023-07-25 09:47:00",
    }
    body = upstream.requests[0].body
    assert [message["content"] for message in body["messages"]] == ["问", "答", "再问"]
    assert (body.get("temperature"), body.get("top_p"), body["max_tokens"]) == (*sampled, 100)


async def test_a_legacy_caller_is_told_in_its_form(http: httpx.AsyncClient, upstream: ScriptedUpstream) -> None:
    upstream.script = lambda _: reply(fails("boom", 500), 500)
    answer = await http.post("/chatglm", json={"prompt": "x"})
    assert answer.status_code == 502
    assert answer.json()["status"] == 502
    assert "boom" in answer.json()["error"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/messages"])
async def test_a_task_is_filled_here(http: httpx.AsyncClient, upstream: ScriptedUpstream, path: str) -> None:
    upstream.script = lambda _: says("好！")
    asked = {"input": "你好"} if path == "/v1/responses" else {"messages": CHAT["messages"], "max_tokens": 5}
    assert (await http.post(path, json={"model": f"{NAME}:shout", **asked})).status_code == 200
    body = upstream.requests[0].body
    assert body["messages"] == [{"role": "user", "content": "大声说：你好"}]
    assert (body["model"], body["temperature"], body["stop"]) == (THERE, 0.25, ["。"])
    assert body["max_tokens"] == (7 if path == "/v1/responses" else 5)


async def test_several_answers_of_a_task(http: httpx.AsyncClient, upstream: ScriptedUpstream) -> None:
    answer = (await http.post("/v1/chat/completions", json={**CHAT, "model": f"{NAME}:shout", "n": 3})).json()
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["好"] * 3
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (11, 9)


async def test_what_needs_the_tokenizer_is_refused(http: httpx.AsyncClient) -> None:
    for path, body in (
        ("/tokenize", {"prompt": "x"}),
        ("/detokenize", {"tokens": [1]}),
        ("/v1/messages/count_tokens", CHAT),
        ("/v1/responses/input_tokens", {"input": "x"}),
    ):
        assert (await http.post(path, json=body)).status_code == 400, path
