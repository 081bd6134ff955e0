"""Behind nginx, Caddy and HAProxy with connections that are kept: each caller gets its own answers, whole."""

import contextlib
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse
from pathlib import Path

import httpx
import pytest

from tests.support.api import make_app, serve
from tests.support.proxies import running_proxy
from tests.support.raw_http import Recorder, exchange, recording
from tests.support.scripted_engine import ScriptedEngine

NGINX = """
daemon off; worker_processes 1; pid nginx.pid; error_log stderr;
events {{}}
http {{
  access_log off; client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  upstream served {{ server {server}; keepalive 1; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ {location} proxy_pass http://served; proxy_buffering off; }}
  }}
}}
"""
WITH_MAP = (
    "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; "
    "proxy_set_header Connection $connection_upgrade; proxy_request_buffering off;"
)
CADDY = "{{\n admin off\n auto_https off\n}}\nhttp://:{port} {{\n bind 127.0.0.1\n reverse_proxy {server}\n}}\n"
HAPROXY = """
defaults
  mode http
  timeout client 20s
  timeout server 20s
  timeout connect 5s
  http-reuse always
listen served
  bind 127.0.0.1:{port}
  server one {server}
"""
PROXIES = {
    "nginx with an upgrade map": ("nginx", NGINX, WITH_MAP, ["nginx", "-p", ".", "-c", "conf"]),
    "nginx as it comes": ("nginx", NGINX, "", ["nginx", "-p", ".", "-c", "conf"]),
    "caddy": ("caddy", CADDY, "", ["caddy", "run", "--adapter", "caddyfile", "--config", "conf"]),
    "haproxy": ("haproxy", HAPROXY, "", ["haproxy", "-f", "conf"]),
}


@contextlib.contextmanager
def proxy(name: str, server: str, folder: Path) -> Iterator[str]:
    """Yield the address of a proxy before ``server``; skip the test where that program is not installed."""
    program, configuration, location, command = PROXIES[name]
    text = configuration.format(port="{port}", server=server.removeprefix("http://"), location=location)
    with running_proxy(program, command, text, folder) as url:
        yield url


@pytest.fixture(params=PROXIES)
def behind(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Recorder]]:
    with recording() as (server, recorder), proxy(request.param, server, tmp_path) as url:
        yield url, recorder


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
OFFER = (
    b"POST /offer HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"
)
FRAMED = {
    "length": OFFER + b"Content-Length: %d\r\n\r\n%b" % (len(SMUGGLED), SMUGGLED),
    "chunked": OFFER + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED),
}


def offer(url: str, framed: str) -> None:
    """Send a request that offers to upgrade, with another one in its body, and read what comes for it."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(FRAMED[framed])
        reply = HTTPResponse(connection)
        reply.begin()
        assert reply.status == 200
        assert json.load(reply)["body"].encode() == SMUGGLED


@pytest.mark.parametrize("framed", FRAMED)
def test_no_caller_gets_the_answer_of_another(behind: tuple[str, Recorder], framed: str) -> None:
    """One caller's body was parsed as a request, whose answer went to the next caller."""
    url, recorder = behind

    def ask(caller: int) -> None:
        with httpx.Client(base_url=url) as http:
            for turn in range(15):
                own = f"/caller{caller}/{turn}"
                assert http.post(own, content=own * 100).json()["path"] == own

    with ThreadPoolExecutor(3) as pool:
        callers = [pool.submit(ask, number) for number in range(2)]
        for _ in range(10):
            pool.submit(offer, url, framed).result()
        for caller in callers:
            caller.result()
    assert not any("smuggled" in one for one in recorder.seen)
    assert len([one for one in recorder.seen if "caller" in one]) == 30


def test_ambiguous_requests_give_nobody_another_answer(behind: tuple[str, Recorder]) -> None:
    url, recorder = behind
    post = b"POST /first HTTP/1.1\r\nHost: x\r\n"
    for bad in (
        post + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        post + b"Content-Length: 0\r\nContent-Length: 35\r\n\r\n" + SMUGGLED,
        post + b"Transfer-Encoding: chunked, identity\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SMUGGLED,
        post + b"X: a\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SMUGGLED,
        post + b"Transfer-Encoding:\x0bchunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        post + b"Transfer-Encoding: chunked\r\n\r\n0_5\r\nhello\r\n0\r\n\r\n",
    ):
        with contextlib.suppress(TimeoutError):
            exchange(url, bad, timeout=0.3)
        assert httpx.post(f"{url}/own", content="own").json()["path"] == "/own"
    assert recorder.seen.count("POST /own") == 6


@pytest.mark.parametrize("name", PROXIES)
def test_a_stream_comes_whole_and_piece_by_piece(name: str, tmp_path: Path) -> None:
    lines: list[str] = []
    # A step is made once the one before it has come: a proxy that keeps it would wait for ever.
    engine = ScriptedEngine(per_step=1, holds=lambda number: number > sum("content" in line for line in lines))
    engine.reply = lambda _: "abcdefgh" * 2
    body = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
    with serve(make_app(engine)) as server, proxy(name, server, tmp_path) as url, httpx.Client(base_url=url) as http:
        for _ in range(2):
            lines.clear()
            with http.stream("POST", "/v1/chat/completions", json=body) as reply:
                for line in reply.iter_lines():
                    lines.append(line)
            events = [line.removeprefix("data: ") for line in lines if line]
            assert events[-1] == "[DONE]"
            text = "".join(json.loads(one)["choices"][0]["delta"].get("content", "") for one in events[:-1])
            assert text == "abcdefgh" * 2
