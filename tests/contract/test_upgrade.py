"""Offers to leave HTTP/1.1 are ignored: the request that makes one is answered, and its body stays its own."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.api import make_app, serve
from tests.support.raw_http import Recorder, exchange, pieces, recording, replies
from tests.support.scripted_engine import ScriptedEngine
from tests.support.slow_callers import wait_until

H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAA\r\n"
OFFERS = {
    "h2c": H2C,
    "websocket": b"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n",
    "tls": b"Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n",
    "nginx map": b"Connection: upgrade\r\nUpgrade: h2c\r\n",
    "upgrade alone": b"Upgrade: h2c\r\n",
    "two": b"Connection: Upgrade\r\nConnection: HTTP2-Settings\r\nUpgrade: foo/2, h2c\r\nUpgrade: bar\r\n",
}
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
BODIES = {
    "length": (b"Content-Length: %d\r\n" % len(SMUGGLED), SMUGGLED, SMUGGLED),
    "chunked": (
        b"Transfer-Encoding: chunked\r\n",
        b"%x\r\n%b\r\n4\r\nmore\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED),
        SMUGGLED + b"more",
    ),
    "empty": (b"Content-Length: 0\r\n", b"", b""),
    "none": (b"", b"", b""),
}
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Recorder]]:
    with recording() as found:
        yield found


@pytest.mark.parametrize("size", [10**6, 1, 13], ids=["one segment", "a byte each", "13 bytes each"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
def test_an_offer_is_ignored_and_the_connection_goes_on(
    server: tuple[str, Recorder], offer: bytes, body: tuple[bytes, bytes, bytes], size: int
) -> None:
    url, recorder = server
    recorder.seen.clear()
    framing, content, meant = body
    first = b"POST /first HTTP/1.1\r\nHost: x\r\n" + offer + framing + b"\r\n" + content
    answers = replies(exchange(url, pieces(first + first + LAST, size)))
    assert [reply.status for reply in answers] == [200, 200, 200]
    assert [reply.json()["body"].encode() for reply in answers] == [meant, meant, b""]
    assert recorder.seen == ["POST /first", "POST /first", "GET /last"]


def test_the_headers_behind_an_offer_are_those_of_its_own_request(server: tuple[str, Recorder]) -> None:
    url, _ = server
    first = b"POST /first HTTP/1.1\r\nHost: a\r\nX-Own: 1\r\n" + H2C + b"Content-Length: 2\r\n\r\nhi"
    one, other = replies(exchange(url, first + LAST))
    assert one.json()["headers"]["x-own"] == "1"
    assert one.json()["headers"]["host"] == "a"
    assert other.json()["headers"] == {"host": "x", "connection": "close"}


def test_an_offer_with_close_is_the_last_request(server: tuple[str, Recorder]) -> None:
    url, recorder = server
    recorder.seen.clear()
    offer = b"Connection: close, Upgrade\r\nUpgrade: h2c\r\n"
    for framing, content, meant in BODIES.values():
        sent = b"POST /first HTTP/1.1\r\nHost: x\r\n" + offer + framing + b"\r\n" + content + SMUGGLED
        (reply,) = replies(exchange(url, sent))
        assert reply.json()["body"].encode() == meant
    assert recorder.seen == ["POST /first"] * len(BODIES)


def test_a_body_after_an_offer_is_waited_for(server: tuple[str, Recorder]) -> None:
    url, _ = server
    head = b"POST /first HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n" + H2C + b"Content-Length: 5\r\n\r\n"
    received = exchange(url, [head, b"hel", b"lo", LAST])
    assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert replies(received)[0].json()["body"] == "hello"


def test_bytes_of_a_broken_body_after_an_offer_are_refused(server: tuple[str, Recorder]) -> None:
    url, recorder = server
    recorder.gone.clear()
    head = b"POST /first HTTP/1.1\r\nHost: x\r\n" + H2C + b"Transfer-Encoding: chunked\r\n\r\n"
    (reply,) = replies(exchange(url, head + b"zz\r\n" + SMUGGLED))
    assert reply.status == 400
    wait_until(lambda: recorder.gone == ["/first"], "the application still waits for the body")


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), "HTTP/2"),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n" + SMUGGLED, "proxy"),
        (b"CONNECT /v1/models HTTP/1.1\r\nHost: x:1\r\n\r\n" + SMUGGLED, "proxy"),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n" + SMUGGLED, "HTTP/1.1"),
    ],
)
def test_another_protocol_is_refused_in_words(server: tuple[str, Recorder], sent: bytes, told: str) -> None:
    url, recorder = server
    recorder.seen.clear()
    (reply,) = replies(exchange(url, sent))
    assert reply.status == 400
    assert reply.json()["error"]["code"] == "malformed_request"
    assert told in reply.json()["error"]["message"]
    assert not recorder.seen


@pytest.fixture(scope="module")
def api() -> Iterator[str]:
    with serve(make_app(ScriptedEngine(parallel=8))) as url:
        yield url


@pytest.mark.skipif(not shutil.which("java"), reason="there is no java")
def test_the_http_client_of_java_is_answered(api: str) -> None:
    source = Path(__file__).parent.parent / "clients" / "scripts" / "Http2Client.java"
    # One file that java compiles itself: at C1 alone that takes half the time.
    ran = subprocess.run(
        ["java", "-XX:TieredStopAtLevel=1", str(source), api], capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == ["200 /v1/chat/completions", "200 /chatglm", "200 /chatglm", "200 /health"]


@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl")
def test_curl_that_offers_http_2_is_answered(api: str) -> None:
    body = '{"prompt": "' + "x" * 3000 + '", "history": []}'
    for framing in ([], ["-H", "Transfer-Encoding: chunked"], ["-H", "Expect: 100-continue"]):
        command = ["curl", "-sS", "--http2", "-w", " %{http_code}", *framing, "-d", body, f"{api}/chatglm"]
        command += ["--next", "-sS", "-w", " %{http_code}", f"{api}/v1/models"]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        assert ran.stdout.count(" 200") == 2, ran.stdout
