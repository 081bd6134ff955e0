"""What only shows on a real connection."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from openai import OpenAI

from tests.support.api import MODEL, make_app, serve
from tests.support.scripted_engine import ScriptedEngine


@pytest.fixture(scope="module")
def engine() -> ScriptedEngine:
    return ScriptedEngine(per_step=1, step_seconds=0.001, parallel=8)


@pytest.fixture(scope="module")
def url(engine: ScriptedEngine) -> Iterator[str]:
    with serve(make_app(engine)) as address:
        yield address


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chatglm"])
def test_a_body_past_the_limit_is_answered_while_it_is_still_being_sent(url: str, path: str) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(40):
            yield b"x" * 2**18

    with httpx.Client(base_url=url) as http:
        assert http.post(path, content=b"x" * 9 * 2**20).status_code == 413
        assert http.post(path, content=chunks()).status_code == 413
        assert http.get("/health").status_code == 200


def test_the_end_of_a_large_body_is_not_counted_to_the_next_request(url: str) -> None:
    """In one piece with the beginning of the next body, it made that one a 400 about too much chunk framing."""
    chat = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n"
    large = chat + b"Content-Length: 100000\r\n\r\n"
    chunked = chat + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[0\r\n"
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 20) as connection:
        connection.sendall(large + b"[")
        time.sleep(0.2)
        connection.sendall(b"0" * 99_999 + chunked)
        time.sleep(0.2)
        connection.sendall(b"1\r\n]\r\n0\r\n\r\n")
        replies = b"".join(iter(lambda: connection.recv(65536), b""))
    assert replies.count(b"HTTP/1.1 400") == 2
    assert b"chunk framing" not in replies


def test_eight_streams_at_once_each_get_their_own_answer(url: str, engine: ScriptedEngine) -> None:
    client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)

    def ask(number: int) -> str:
        chunks = client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": f"第{number}个"}], stream=True
        )
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
    assert answers == [f"你问的是：第{number}个" for number in range(8)]
    assert engine.running == 0


def test_a_text_of_a_million_characters_is_refused_and_nobody_notices(url: str) -> None:
    body = {"messages": [{"role": "user", "content": "长" * 10**6}]}
    reply = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=30)
    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == "context_length_exceeded"
