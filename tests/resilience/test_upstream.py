"""Faults between this server and the one that runs a model: hanging up, slow readers, silence, death and return."""

import contextlib
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.support.api import serve
from tests.support.scripted_upstream import (
    NAME,
    Asked,
    ScriptedUpstream,
    chunk,
    event,
    framed,
    reply,
    says,
    slowly,
    stream_head,
    whole,
)

CHAT = {"model": NAME, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 50}
_WAIT_S = 20.0


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + _WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.02)


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as server:
        yield server


@pytest.fixture
def url(upstream: ScriptedUpstream) -> Iterator[str]:
    with serve(upstream.app()) as address:
        yield address


def endless(_: Asked) -> Iterator[bytes]:
    """Yield an answer that never ends, a chunk now and then."""
    yield stream_head()
    yield from slowly(itertools.repeat(framed(event(chunk(content="好")))), 0.02)


def silent(_: Asked) -> Iterator[bytes]:
    """Send nothing, until the caller has hung up."""
    threading.Event().wait(_WAIT_S)
    yield b""


def running(url: str) -> int:
    return int(httpx.get(f"{url}/health").json()["models"][0]["stats"]["running"])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {**CHAT, "stream": True}),
        ("/v1/completions", {"prompt": "x", "stream": True}),
        ("/v1/responses", {"input": "x", "stream": True}),
        ("/v1/messages", {**CHAT, "stream": True}),
        ("/v1/messages", CHAT),
        ("/v1/responses", {"input": "x"}),
        ("/chatglm", {"prompt": "x"}),
    ],
)
def test_a_caller_that_hangs_up_ends_the_upstreams_work(
    upstream: ScriptedUpstream, url: str, path: str, body: dict[str, object]
) -> None:
    upstream.script = endless
    with contextlib.suppress(httpx.ReadTimeout), httpx.stream("POST", url + path, json=body, timeout=0.4) as answer:
        next(answer.iter_raw())
    until(upstream.gone.is_set)
    until(lambda: running(url) == 0)


def test_a_caller_that_hangs_up_before_a_whole_reply(upstream: ScriptedUpstream, url: str) -> None:
    held: list[Asked] = []

    def script(asked: Asked) -> Iterator[bytes]:
        held.append(asked)
        yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000000\r\n\r\n"
        yield from slowly(itertools.repeat(b" "), 0.02)

    upstream.script = script
    with contextlib.suppress(httpx.ReadTimeout):
        httpx.post(f"{url}/v1/chat/completions", json=CHAT, timeout=0.4)
    until(upstream.gone.is_set)
    assert held


def test_a_slow_reader_holds_the_upstream_back(upstream: ScriptedUpstream, url: str) -> None:
    piece = framed(event(chunk(content="x" * 10_000)))
    most = 400 << 20  # the kernel alone buffers some tens of megabytes

    def flood(_: Asked) -> Iterator[bytes]:
        yield stream_head()
        for _piece in range(most // len(piece)):
            yield piece

    upstream.script = flood
    body = json.dumps({**CHAT, "stream": True}).encode()
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as caller:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        caller.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        until(lambda: upstream.written)
        seen = -1
        while seen != upstream.written:  # until nothing moves any more
            seen = upstream.written
            time.sleep(0.5)
        assert seen < most // 4
    until(upstream.gone.is_set)


@pytest.mark.parametrize("body", [CHAT, {**CHAT, "stream": True}])
def test_an_upstream_that_sends_nothing(upstream: ScriptedUpstream, body: dict[str, object]) -> None:
    upstream.script = silent
    with serve(upstream.app(timeout=0.3)) as url:
        answer = httpx.post(f"{url}/v1/chat/completions", json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "upstream_timeout")


def test_an_upstream_that_falls_silent_in_a_stream(upstream: ScriptedUpstream) -> None:
    def script(asked: Asked) -> Iterator[bytes]:
        yield stream_head() + framed(event(chunk(content="好")))
        yield from silent(asked)

    upstream.script = script
    with serve(upstream.app(timeout=0.3)) as url:
        text = httpx.post(f"{url}/v1/chat/completions", json={**CHAT, "stream": True}).text
        assert '"content":"好"' in text
        assert '"code":"upstream_timeout"' in text
        assert text.endswith("data: [DONE]\n\n")


def test_an_upstream_that_dies_and_comes_back(upstream: ScriptedUpstream, url: str) -> None:
    upstream.script = lambda asked: says("x") if asked.body.get("stream") else reply(whole())
    assert httpx.post(f"{url}/v1/chat/completions", json=CHAT).status_code == 200
    upstream.close()
    for path in ("/v1/chat/completions", "/v1/messages", "/v1/responses"):
        answer = httpx.post(url + path, json={"input": "x"} if path == "/v1/responses" else CHAT)
        assert answer.status_code == 503, answer.text
        assert int(answer.headers["retry-after"]) > 0
        assert "cannot be reached" in answer.text
    health = httpx.get(f"{url}/health")
    assert (health.status_code, health.json()["status"]) == (503, "unreachable")
    assert httpx.get(f"{url}/v1/models").json()["data"][0]["state"] == "unreachable"
    assert f'ready{{model_name="{NAME}"}} 0.0' in httpx.get(f"{url}/metrics").text
    upstream.come_back()
    until(lambda: httpx.get(f"{url}/health").status_code == 200)
    assert httpx.post(f"{url}/v1/chat/completions", json=CHAT).status_code == 200


def test_the_server_starts_without_its_upstream(upstream: ScriptedUpstream) -> None:
    upstream.close()
    app = upstream.app()
    came_back = threading.Timer(0.5, upstream.come_back)
    came_back.start()
    with serve(app) as url:  # once /health is 200
        assert httpx.post(f"{url}/v1/messages", json=CHAT).json()["content"][0]["text"] == "好"
    came_back.join()


def test_connections_are_used_again(upstream: ScriptedUpstream, url: str) -> None:
    upstream.script = lambda asked: says("x") if asked.body.get("stream") else reply(whole())
    before = len(upstream.connections)
    for body in (CHAT, {**CHAT, "stream": True}) * 6:
        assert httpx.post(f"{url}/v1/chat/completions", json=body).status_code == 200
    assert len(upstream.connections) - before < 6
