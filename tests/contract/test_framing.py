"""The bytes of a stream, as clients that split them by hand need them."""

import json

import httpx
import pytest

from glmserve.engine.errors import EngineDied
from tests.support.scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

BODY = {"messages": [{"role": "user", "content": "你好"}], "stream": True}


async def events(http: httpx.AsyncClient, **fields: object) -> list[str]:
    reply = await http.post("/v1/chat/completions", json={**BODY, **fields})
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert b"\r" not in reply.content
    *framed, rest = reply.content.decode().split("\n\n")
    assert rest == ""
    assert all(event.startswith("data: ") and "\n" not in event for event in framed)
    return [event.removeprefix("data: ") for event in framed]


async def test_every_event_is_one_data_line_and_an_empty_one_and_done_is_last(
    http: httpx.AsyncClient,
) -> None:
    *chunks, done = await events(http)
    assert done == "[DONE]"
    assert all(json.loads(chunk)["object"] == "chat.completion.chunk" for chunk in chunks)


async def test_chinese_is_sent_as_itself(http: httpx.AsyncClient) -> None:
    assert any("你" in event for event in await events(http))


async def test_a_chunk_has_no_usage_unless_requested_and_then_every_one_has(http: httpx.AsyncClient) -> None:
    assert not any("usage" in event for event in await events(http))
    asked = await events(http, stream_options={"include_usage": True})
    assert all("usage" in json.loads(event) for event in asked[:-1])


async def test_text_that_line_splitters_take_for_an_end_of_line_stays_in_its_line(
    http: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    text = "a\nb\r\nc\u2028d\u2029e\x85f\x0bg"
    engine.reply = lambda _: text
    framed = await events(http)
    assert not any("\u2028" in event or "\x85" in event for event in framed)
    deltas = [json.loads(event)["choices"][0]["delta"] for event in framed[:-1]]
    assert "".join(delta.get("content", "") for delta in deltas) == text


async def test_an_error_in_the_middle_is_an_event_and_then_done(
    http: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    engine.fail = EngineDied("the engine process ended")
    *_, error, done = await events(http)
    assert json.loads(error) == {
        "error": {
            "message": "the engine process ended",
            "type": "server_error",
            "param": None,
            "code": "engine_died",
        }
    }
    assert done == "[DONE]"
    assert engine.running == 0
