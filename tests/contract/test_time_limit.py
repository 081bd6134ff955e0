"""A request over the time limit ends, with an error or with a last event, and frees what it had."""

import asyncio
import json
import socket

import httpx
import pytest

from glmserve.bootstrap.app import ApiOptions
from glmserve.http.middleware import request_limits as time_limit
from tests.support.api import connect, make_app, serve
from tests.support.scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
HELLO = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4000}
LIMITED = ApiOptions(request_timeout=0.5)
"""Enough for a busy machine to begin the answer in."""


@pytest.fixture
def engine() -> ScriptedEngine:
    """An engine that would answer for a minute."""
    return ScriptedEngine(endless=True, step_seconds=0.01, per_step=1)


@pytest.mark.parametrize("n", [1, 3])
async def test_a_whole_answer_that_takes_too_long_is_a_504(engine: ScriptedEngine, n: int) -> None:
    async with connect(make_app(engine, LIMITED)) as http:
        reply = await http.post(CHAT, json={**HELLO, "n": n})
    assert (reply.status_code, reply.json()["error"]["code"]) == (504, "request_timeout")
    assert len(engine.submissions) == n
    assert engine.running == 0


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": ["a", "b"], "max_tokens": 4000, "n": 2}),
        ("/v1/responses", {"input": "hi", "max_output_tokens": 4000}),
        ("/v1/messages", HELLO),
    ],
)
async def test_every_dialect_has_the_limit(engine: ScriptedEngine, path: str, body: dict[str, object]) -> None:
    async with connect(make_app(engine, LIMITED)) as http:
        whole = await http.post(path, json=body)
        streamed = await http.post(path, json={**body, "stream": True})
    assert (whole.status_code, streamed.status_code) == (504, 200)
    for reply in (whole, streamed):
        assert "more than 0.5 s" in reply.text
    assert engine.running == 0


async def test_a_legacy_error_has_the_legacy_format(engine: ScriptedEngine) -> None:
    async with connect(make_app(engine, LIMITED)) as http:
        reply = await http.post("/chatglm", json={"prompt": "hi"})
    assert (reply.status_code, reply.json()["status"]) == (504, 504)
    assert engine.running == 0


@pytest.mark.parametrize("n", [1, 2])
async def test_a_stream_that_takes_too_long_ends_with_an_error_event(engine: ScriptedEngine, n: int) -> None:
    async with connect(make_app(engine, LIMITED)) as http:
        reply = await http.post(CHAT, json={**HELLO, "stream": True, "n": n})
    events = [line.removeprefix("data: ") for line in reply.text.split("\n") if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    assert json.loads(events[-2])["error"]["code"] == "request_timeout"
    assert len(events) > 2
    assert engine.running == 0


async def test_a_stream_that_takes_too_long_is_counted_by_what_ended_it(engine: ScriptedEngine) -> None:
    """It was an internal_error in the figures, as every failure in a stream."""
    async with connect(make_app(engine, LIMITED)) as http:
        await http.post(CHAT, json={**HELLO, "stream": True})
        figures = (await http.get("/metrics")).text
    assert [line for line in figures.split("\n") if "request_failed_total{" in line and "request_timeout" in line]


async def test_an_engine_that_gives_nothing_at_all_is_not_waited_for(engine: ScriptedEngine) -> None:
    engine.step_seconds = 3600
    async with connect(make_app(engine, LIMITED)) as http:
        for stream in (False, True):
            reply = await http.post(CHAT, json={**HELLO, "stream": stream})
            assert "request_timeout" in reply.text
    assert engine.running == 0


async def test_the_next_request_has_a_limit_of_its_own() -> None:
    async with connect(make_app(ScriptedEngine(), ApiOptions(request_timeout=1.0))) as http:
        await asyncio.sleep(1.1)
        assert (await http.post(CHAT, json=HELLO)).status_code == 200


def test_a_body_that_does_not_come_is_a_504(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_limit, "GRACE_S", 0.1)
    with serve(make_app(ScriptedEngine(), LIMITED)) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{")
            assert b" 504 " in connection.recv(65536)


async def test_no_limit_is_the_default_of_an_app() -> None:
    async with connect(make_app(ScriptedEngine(step_seconds=0.05, per_step=9))) as http:
        reply = await http.post(CHAT, json=HELLO)
    assert isinstance(reply, httpx.Response)
    assert reply.status_code == 200
