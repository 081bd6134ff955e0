"""What stands before a body is bounded, in size and in time, on a real port."""

import socket
from collections.abc import Iterator

import httpx
import pytest

from glmserve.http.framing import uvicorn_protocol
from tests.support.api import make_app, serve
from tests.support.scripted_engine import ScriptedEngine


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve(make_app(ScriptedEngine())) as address:
        yield address


def exchange(url: str, sent: bytes, pieces: int = 1) -> bytes:
    """Send bytes, a piece after another, and return all that comes back until the server hangs up."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        received = b""
        try:
            for _ in range(pieces):
                connection.sendall(sent)
            while piece := connection.recv(65536):
                received += piece
        except (BrokenPipeError, ConnectionResetError):
            pass
        return received


@pytest.mark.parametrize(
    "head",
    [
        {"X-Long": "x" * 70_000},
        {f"X-{number}": "x" * 1000 for number in range(70)},
        {f"X-{number}": "x" for number in range(200)},
    ],
)
def test_headers_that_are_too_many_or_too_long_are_refused(url: str, head: dict[str, str]) -> None:
    reply = httpx.get(f"{url}/health", headers=head)
    assert reply.status_code == 431
    assert reply.json()["error"]["code"] == "headers_too_large"


def test_a_request_line_without_end_is_refused(url: str) -> None:
    assert b" 431 " in exchange(url, b"GET /" + b"x" * 100_000).partition(b"\r\n")[0]


def test_a_header_without_end_is_cut_off_long_before_it_fills_the_memory(url: str) -> None:
    start = b"GET /health HTTP/1.1\r\nHost: x\r\nX-Long: "
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(start)
        with pytest.raises(ConnectionError):
            connection.sendall(b"x" * 2**26)


def test_usual_requests_pass_one_after_the_other_on_one_connection(url: str) -> None:
    body = {"messages": [{"role": "user", "content": "x" * 3000}], "metadata": {"k": "y" * 200_000}}
    with httpx.Client(base_url=url, headers={f"X-{number}": "x" * 400 for number in range(100)}) as client:
        for _ in range(3):
            assert client.post("/v1/chat/completions", json=body).status_code == 200
            assert client.get("/health").status_code == 200


def test_what_is_no_request_is_a_400(url: str) -> None:
    assert b" 400 " in exchange(url, b"hello\r\n\r\n").partition(b"\r\n")[0]


@pytest.mark.parametrize("sent", [b"", b"GET /health HTTP/1.1\r\nHost:"])
def test_a_client_that_does_not_end_its_head_is_disconnected(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(uvicorn_protocol, "HEAD_SECONDS", 0.2)
    with serve(make_app(ScriptedEngine())) as address:
        assert exchange(address, sent) == b""
