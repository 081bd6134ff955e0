"""Callers of HTTP/1.0, as nginx is one by default: no chunks, no interim replies, one ``Connection`` header."""

import json
from collections.abc import Iterator

import pytest

from tests.support.api import make_app, serve
from tests.support.raw_http import Recorder, Reply, exchange, recording, replies
from tests.support.scripted_engine import ScriptedEngine

BODY = json.dumps({"messages": [{"role": "user", "content": "你好"}], "stream": True}).encode()


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Recorder]]:
    with recording() as found:
        yield found


@pytest.fixture(scope="module")
def api() -> Iterator[str]:
    with serve(make_app(ScriptedEngine())) as url:
        yield url


def post(path: str, body: bytes, version: str = "1.0", *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/{version}", f"Content-Length: {len(body)}", "Host: x", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def only(received: bytes) -> Reply:
    (reply,) = replies(received)
    return reply


def test_a_stream_is_ended_by_the_end_of_the_connection(api: str) -> None:
    reply = only(exchange(api, post("/v1/chat/completions", BODY, "1.0", "Connection: keep-alive")))
    assert reply.status == 200
    assert not reply.values("transfer-encoding")
    assert reply.values("connection") == ["close"]
    events = reply.body.decode().split("\n\n")
    assert all(event.startswith("data: ") for event in events[:-1])
    assert events[-2:] == ["data: [DONE]", ""]


def test_a_stream_says_once_what_becomes_of_the_connection(api: str) -> None:
    close = post("/v1/chat/completions", BODY, "1.1", "Connection: close")
    reply = only(exchange(api, close))
    assert reply.values("connection") == ["close"]
    assert reply.values("transfer-encoding") == ["chunked"]
    kept, closed = replies(exchange(api, post("/v1/chat/completions", BODY, "1.1") + close))
    assert not kept.values("connection")
    assert kept.body == reply.body or kept.body.endswith(b"data: [DONE]\n\n")
    assert closed.values("connection") == ["close"]


def test_a_reply_in_parts_comes_as_it_is(server: tuple[str, Recorder]) -> None:
    reply = only(exchange(server[0], post("/parts", b"hello")))
    assert reply.json()["body"] == "hello"
    assert not reply.values("transfer-encoding")


def test_there_is_no_interim_reply(server: tuple[str, Recorder]) -> None:
    received = exchange(server[0], post("/first", b"hello", "1.0", "Expect: 100-continue"))
    assert received.startswith(b"HTTP/1.1 200 ")


def test_no_host_name_is_required(server: tuple[str, Recorder]) -> None:
    assert only(exchange(server[0], b"GET /first HTTP/1.0\r\n\r\n")).status == 200


def test_an_offer_to_upgrade_is_ignored(server: tuple[str, Recorder]) -> None:
    sent = post("/first", b"hello", "1.0", "Connection: Upgrade", "Upgrade: h2c")
    assert only(exchange(server[0], sent)).json()["body"] == "hello"
