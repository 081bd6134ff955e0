"""Connections that take their time: idle ones, a byte at a time, too many; on real sockets."""

import contextlib
import json
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from glmserve.bootstrap.app import ApiOptions
from glmserve.bootstrap.uvicorn_server import room_for
from glmserve.http.framing import uvicorn_protocol
from glmserve.http.framing.uvicorn_protocol import bounded_protocol
from glmserve.http.middleware import request_limits
from tests.conftest import running_server
from tests.support.api import make_app, serve
from tests.support.load import vitals
from tests.support.scripted_engine import ScriptedEngine
from tests.support.slow_callers import HELLO, STREAM, connected, post, wait_until


def drip(connection: socket.socket, piece: bytes, seconds: float = 30.0) -> bytes:
    """Send a piece again and again until the server hangs up; return all that it said."""
    said = b""
    until = time.monotonic() + seconds
    with contextlib.suppress(ConnectionError):
        while time.monotonic() < until:
            connection.sendall(piece)
            connection.settimeout(0.02)
            with contextlib.suppress(TimeoutError):
                if not (received := connection.recv(65536)):
                    return said
                said += received
    assert time.monotonic() < until, "the connection is still open"
    return said


def is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_idle_connections_make_room_for_others_and_those_that_are_answered_do_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = ScriptedEngine(endless=True, per_step=1, context_length=10**6, step_seconds=0.01)
    with serve(make_app(engine), bounded_protocol(most_connections=20)) as url, ExitStack() as stack:
        stream = stack.enter_context(connected(url, post(STREAM)))
        wait_until(lambda: engine.running, "the stream has not begun")
        idle = [stack.enter_context(connected(url)) for _ in range(60)]
        assert httpx.get(f"{url}/health").status_code == 200
        wait_until(lambda: sum(map(is_closed, idle)) >= 41, "idle connections are still open")
        assert not any(map(is_closed, idle[-18:]))
        assert engine.running == 1
        assert stream.recv(65536)
    assert caplog.text.count("20 connections are open (--max-connections)") == 1


def test_where_all_connections_are_being_answered_one_more_is_told_so() -> None:
    engine = ScriptedEngine(endless=True, per_step=1, context_length=10**6, step_seconds=0.01)
    with serve(make_app(engine), bounded_protocol(most_connections=2)) as url, ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(connected(url, post(STREAM)))
        wait_until(lambda: engine.running == 2, "the streams have not begun")
        with connected(url) as third:
            head, _, body = b"".join(iter(lambda: third.recv(65536), b"")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 1" in head
    assert json.loads(body)["error"]["code"] == "too_many_connections"


def test_a_body_a_byte_at_a_time_is_refused_and_cannot_hold_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_limits, "BODY_SECONDS", 0.3)
    monkeypatch.setattr(uvicorn_protocol, "REST_SECONDS", 0.3)
    with serve(make_app(ScriptedEngine())) as url, connected(url, post(HELLO, 10**6)) as connection:
        said = drip(connection, b" ")
    assert said.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"body_too_slow"' in said


def test_a_body_that_comes_slowly_but_well_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_limits, "BODY_SECONDS", 0.2)
    monkeypatch.setattr(request_limits, "BYTES_PER_SECOND", 10)
    request = post(HELLO)
    with serve(make_app(ScriptedEngine())) as url, connected(url, request[:-40]) as connection:
        for place in range(len(request) - 40, len(request)):
            time.sleep(0.01)
            connection.sendall(request[place : place + 1])
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "request_head",
    [post({}, 10**9), post(HELLO, 10**6, "/nowhere"), post(HELLO, 10**6, "/health")],
    ids=["413", "404", "405"],
)
def test_who_was_answered_early_cannot_go_on_sending(monkeypatch: pytest.MonkeyPatch, request_head: bytes) -> None:
    monkeypatch.setattr(uvicorn_protocol, "REST_SECONDS", 0.3)
    with serve(make_app(ScriptedEngine())) as url, connected(url, request_head) as connection:
        assert drip(connection, b"x").startswith(b"HTTP/1.1 4")


def test_empty_lines_after_an_answer_do_not_keep_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uvicorn_protocol, "HEAD_SECONDS", 0.5)
    with serve(make_app(ScriptedEngine())) as url, connected(url, post(HELLO)) as connection:
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        drip(connection, b"\r\n")


def test_what_has_come_of_unfinished_bodies_is_bounded() -> None:
    with serve(make_app(ScriptedEngine(), ApiOptions(max_body_bytes=1000))) as url, ExitStack() as stack:
        unfinished = [stack.enter_context(connected(url, post(HELLO, 900) + b" " * 600)) for _ in range(20)]
        assert httpx.post(f"{url}/v1/chat/completions", json=HELLO).status_code == 200
        wait_until(lambda: any(map(has_reply, unfinished)), "none was refused")
        refused = [number for number, one in enumerate(unfinished) if has_reply(one)]
        assert refused == list(range(len(refused))), "it was not the oldest"
        assert 5 <= len(refused) <= 10
        for connection in unfinished[10:]:
            connection.setblocking(True)
            connection.sendall(b" " * (900 - 600 - len(json.dumps(HELLO))))
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def has_reply(connection: socket.socket) -> bool:
    connection.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        return bool(connection.recv(1, socket.MSG_PEEK))
    return False


def test_requests_far_ahead_of_their_answers_end_a_connection() -> None:
    get = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    with serve(make_app(ScriptedEngine())) as url:
        with connected(url, get * 10 + get.replace(b"Host", b"Connection: close\r\nHost")) as connection:
            said = b"".join(iter(lambda: connection.recv(65536), b""))
            assert said.count(b"HTTP/1.1 200 ") == 11
        with connected(url, get * 2000) as connection:
            drip(connection, b"")
        assert httpx.get(f"{url}/health").status_code == 200


@pytest.fixture(scope="module")
def server(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """The address and the process id of a real server."""
    log = tmp_path_factory.mktemp("connections") / "log"
    with running_server(str(tiny_gguf), log=log) as (url, process):
        answer(url)
        yield url, process.pid
        answer(url)
    assert "Traceback" not in log.read_text("utf-8")


def answer(url: str) -> None:
    body = {**HELLO, "max_tokens": 2}
    httpx.post(f"{url}/v1/chat/completions", json=body, timeout=30).raise_for_status()


def test_hundreds_of_slow_connections_cost_others_nothing_and_leave_nothing(server: tuple[str, int]) -> None:
    url, pid = server
    slow = (b"", b"POST /chatglm HTTP/1.1\r\nHost:", post(HELLO, 10**6), post({**STREAM, "max_tokens": 1})[:-1])
    files, memory = vitals.measure(pid).files, vitals.measure(pid).memory
    with ExitStack() as stack:
        for number in range(600):
            stack.enter_context(connected(url, slow[number % len(slow)]))
        wait_until(lambda: vitals.measure(pid).files >= 600, "not all were taken")
        answer(url)
        assert vitals.measure(pid).memory - memory < 64 * 2**20
    wait_until(lambda: vitals.measure(pid).files <= files, "files are still open")


def test_a_server_without_file_descriptors_goes_on_once_there_are_some(server: tuple[str, int]) -> None:
    url, pid = server
    files, (soft, hard) = vitals.measure(pid).files, resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (files + 5, hard))
    with ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(connected(url))
        time.sleep(0.5)
        assert vitals.measure(pid).files <= files + 5
    answer(url)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(("soft", "hard", "room"), [(1024, 9000, 4096), (1024, 1024, 960), (10, 10, 1), (-1, -1, 4096)])
def test_there_are_no_more_connections_than_the_system_has_files_for(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, room: int
) -> None:
    asked = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    assert room_for(4096) == room
    assert all(soft < got <= hard == still for got, still in asked) or soft == hard
