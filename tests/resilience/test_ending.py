"""The server is told to stop: what runs gets an end, what comes goes elsewhere, and the exit code is 0."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx

from tests.conftest import running_server
from tests.support.faults import FAULTY_SERVER, VARIABLE
from tests.support.processes import engine_pid, is_alive, wait_running
from tests.support.slow_callers import wait_until
from tests.support.tcp_proxy import TcpProxy

ASK = {"messages": [{"role": "user", "content": "你好"}], "stream": True, "ignore_eos": True}
LONG = {**ASK, "max_tokens": 1900}
PATIENT = ("--shutdown-seconds", "100")
"""A busy machine may take longer than the default for an answer."""
SLOW = "decode:20+=slow"
"""No machine is so fast that ``LONG`` ends within a minute."""
LATE = {
    "/v1/chat/completions": LONG,
    "/v1/completions": {"prompt": "你好", "stream": True, "ignore_eos": True, "max_tokens": 1900},
    "/v1/responses": {"input": "你好", "stream": True, "ignore_eos": True, "max_output_tokens": 1900},
}


class Ask:
    """A request in a thread of its own, and what came of it."""

    def __init__(self, url: str, path: str, body: dict[str, object]) -> None:
        self.begun = threading.Event()
        self.status = 0
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._run, args=(url + path, body))
        self._thread.start()
        assert not body.get("stream") or self.begun.wait(20)

    def _run(self, url: str, body: dict[str, object]) -> None:
        with suppress(httpx.RemoteProtocolError), httpx.stream("POST", url, json=body, timeout=60) as reply:
            self.status = reply.status_code
            for line in reply.iter_lines():
                self.begun.set()
                self.lines.append(line)

    def events(self) -> list[str]:
        """Wait for the end; return the data of all events."""
        self._thread.join(90)
        assert not self._thread.is_alive(), "the request did not end"
        return [line.removeprefix("data: ") for line in self.lines if line.startswith("data: ")]


def test_a_running_stream_is_finished_and_no_new_request_is_admitted(tiny_gguf: Path, tmp_path: Path) -> None:
    """The library that frames the events would cut them all at the signal."""
    with running_server(str(tiny_gguf), *PATIENT, log=tmp_path / "log") as (url, server):
        ask = Ask(url, "/v1/chat/completions", {**ASK, "max_tokens": 300})
        server.send_signal(signal.SIGTERM)
        assert_is_refused(url)
        events = ask.events()
        assert server.wait(30) == 0
    assert events[-1] == "[DONE]"
    assert json.loads(events[-2])["choices"][0]["finish_reason"] == "length"


def test_what_does_not_end_in_time_ends_as_its_dialect_tells_of_errors(tiny_gguf: Path, tmp_path: Path) -> None:
    with running_server(str(tiny_gguf), "--shutdown-seconds", "0", log=tmp_path / "log", faults=SLOW) as (url, server):
        whole = Ask(url, "/v1/chat/completions", {**LONG, "stream": False})
        legacy = Ask(url, "/chatglm", {"prompt": "你好", "max_length": 2000, "history": [["写", "诗" * 300]]})
        chat, text, response = (Ask(url, path, body).events for path, body in LATE.items())
        wait_running(url, 5)
        server.send_signal(signal.SIGTERM)
        for events in (chat(), text()):
            assert events[-1] == "[DONE]"
            assert json.loads(events[-2])["error"]["code"] == "engine_unavailable"
        assert json.loads(response()[-1])["type"] == "response.failed"
        whole.events()
        assert whole.status == 503
        legacy.events()
        assert legacy.status in (200, 503)
        assert server.wait(30) == 0
    assert "Traceback" not in (tmp_path / "log").read_text("utf-8")


def test_a_second_ctrl_c_does_not_wait(tiny_gguf: Path, tmp_path: Path) -> None:
    with running_server(str(tiny_gguf), "--shutdown-seconds", "60", log=tmp_path / "log", faults=SLOW) as (url, server):
        asks = [Ask(url, "/v1/chat/completions", LONG) for _ in range(4)]
        server.send_signal(signal.SIGINT)
        assert_is_refused(url)
        log = tmp_path / "log"
        wait_until(lambda: "stopping; 4 requests may run for 60 s" in log.read_text("utf-8"), "told")
        server.send_signal(signal.SIGINT)
        assert server.wait(30) == 0
        for ask in asks:
            ask.events()
    assert "Traceback" not in (tmp_path / "log").read_text("utf-8")


def test_a_rolling_restart_behind_a_proxy_loses_no_request(tiny_gguf: Path, tmp_path: Path) -> None:
    """Many clients ask, each by its connection, while one server takes over from another behind their address."""
    with ExitStack() as stack:
        drain = ("--drain-seconds", "1", "--threads", "1")
        old, process = stack.enter_context(running_server(str(tiny_gguf), *drain, log=tmp_path / "old"))
        new, _ = stack.enter_context(running_server(str(tiny_gguf), *drain, log=tmp_path / "new"))
        proxy = stack.enter_context(TcpProxy([old, new]))
        pool = stack.enter_context(ThreadPoolExecutor(4))
        stop = threading.Event()
        stack.callback(stop.set)
        answered: list[list[str]] = [[] for _ in range(4)]
        clients = [pool.submit(_keep_asking, proxy.url, stop, answers) for answers in answered]
        _wait_until(lambda: all(len(answers) > 1 for answers in answered))
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
        before = [len(answers) for answers in answered]
        _wait_until(lambda: all(len(a) > n + 1 for a, n in zip(answered, before, strict=True)))
        stop.set()
        for client in clients:
            client.result(30)
    assert all('"finish_reason":"length"' in answer for answers in answered for answer in answers)
    assert proxy.served[old]
    assert proxy.served[new]


def _keep_asking(url: str, stop: threading.Event, answers: list[str]) -> None:
    """Ask for whole answers and for streams, over a connection that is kept."""
    with httpx.Client(base_url=url, timeout=30) as http:
        while not stop.is_set():
            body = {**ASK, "stream": len(answers) % 2 == 0, "max_tokens": 5}
            answers.append(http.post("/v1/chat/completions", json=body).raise_for_status().text)


def _wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def assert_is_refused(url: str) -> None:
    deadline = time.monotonic() + 20
    host, port = url.removeprefix("http://").split(":")
    while time.monotonic() < deadline:
        try:
            socket.create_connection((host, int(port)), 1).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.02)
    raise AssertionError("the server still takes connections")


def test_ctrl_c_in_a_terminal_reaches_all_processes_and_cuts_no_answer(tiny_gguf: Path, tmp_path: Path) -> None:
    """A terminal sends it to the whole group; an engine that ended by it would take every stream with it."""
    with running_server(str(tiny_gguf), *PATIENT, log=tmp_path / "log", group=True) as (url, server):
        ask = Ask(url, "/v1/chat/completions", {**ASK, "max_tokens": 300})
        os.killpg(server.pid, signal.SIGINT)
        os.killpg(server.pid, signal.SIGTERM)
        events = ask.events()
        assert server.wait(20) == 0
    assert json.loads(events[-2])["choices"][0]["finish_reason"] == "length"


def test_told_to_stop_while_it_loads_it_stops_at_once(tiny_gguf: Path, tmp_path: Path) -> None:
    command = [*FAULTY_SERVER, "serve", str(tiny_gguf), "--port", "0"]
    environment = {**os.environ, VARIABLE: "load=hang"}
    with (tmp_path / "log").open("wb") as sink:
        server = subprocess.Popen(command, stderr=sink, env=environment, start_new_session=True)
    _wait_until(lambda: "this engine fails on purpose" in (tmp_path / "log").read_text("utf-8"))
    engine = engine_pid(server.pid)
    os.killpg(server.pid, signal.SIGINT)
    assert server.wait(20) == 0
    assert not is_alive(engine)
    assert "Traceback" not in (tmp_path / "log").read_text("utf-8")


def test_told_to_stop_while_the_engine_restarts_it_stops_at_once(tiny_gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "plan").write_text("")
    log, plan = tmp_path / "log", f"once {tmp_path / 'plan'}"
    with running_server(str(tiny_gguf), "--shutdown-seconds", "1", log=log, faults=plan) as (url, server):
        (tmp_path / "plan").write_text("load=hang")
        os.kill(engine_pid(server.pid), signal.SIGKILL)
        _wait_until(lambda: "fails on purpose" in log.read_text("utf-8"))
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(httpx.post, f"{url}/v1/chat/completions", json={**ASK, "stream": False}, timeout=30)
            _wait_until(lambda: httpx.get(f"{url}/health").json()["status"] == "restarting")
            server.send_signal(signal.SIGTERM)
            assert server.wait(20) == 0
            assert waiting.result().status_code == 503
    assert "Traceback" not in log.read_text("utf-8")


def test_a_caller_who_reads_nothing_holds_no_server_up(tiny_gguf: Path, tmp_path: Path) -> None:
    with running_server(str(tiny_gguf), "--shutdown-seconds", "1", log=tmp_path / "log") as (url, server):
        host, port = url.removeprefix("http://").split(":")
        body = json.dumps({**LONG, "logprobs": True, "top_logprobs": 20, "n": 8}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection((host, int(port))) as unread:
            unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            unread.sendall(head.encode() + body)
            wait_running(url, 8)
            server.send_signal(signal.SIGTERM)
            assert server.wait(12) == 0


def test_an_engine_does_not_outlive_its_server_whatever_it_is_doing(tiny_gguf: Path, tmp_path: Path) -> None:
    """One in a step that does not end went on for ever: it only looked at its pipe between two steps."""
    with running_server(str(tiny_gguf), log=tmp_path / "log", faults="decode:2=hang") as (url, server):
        engine = engine_pid(server.pid)
        ask = Ask(url, "/v1/chat/completions", LONG)
        server.kill()
        _wait_until(lambda: not is_alive(engine))
        ask.events()


def test_a_closed_terminal_ends_the_server_in_good_order(tiny_gguf: Path, tmp_path: Path) -> None:
    """Streams were cut, and the engine was killed before it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may run under nohup themselves
    try:
        with running_server(str(tiny_gguf), *PATIENT, log=tmp_path / "log", group=True) as (url, server):
            ask = Ask(url, "/v1/chat/completions", {**ASK, "max_tokens": 300})
            os.killpg(server.pid, signal.SIGHUP)
            events = ask.events()
            assert server.wait(20) == 0
    finally:
        signal.signal(signal.SIGHUP, before)
    assert json.loads(events[-2])["choices"][0]["finish_reason"] == "length"


def test_a_server_under_nohup_outlives_its_terminal(tiny_gguf: Path, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does it: the child keeps it
    try:
        with running_server(str(tiny_gguf), *PATIENT, log=tmp_path / "log", group=True) as (url, server):
            os.killpg(server.pid, signal.SIGHUP)
            assert Ask(url, "/v1/chat/completions", {**ASK, "max_tokens": 30}).events()[-1] == "[DONE]"
            assert server.poll() is None
    finally:
        signal.signal(signal.SIGHUP, before)
