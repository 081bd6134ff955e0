"""Two servers behind a proxy are restarted one after the other, again and again, under callers who never pause."""

import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import httpx

from tests.conftest import running_server
from tests.support.api import serve
from tests.support.reverse_proxy import ReverseProxy

CALLERS, ROUNDS = 6, 3
ASK = {"messages": [{"role": "user", "content": "你好"}], "ignore_eos": True, "max_tokens": 20}


class Node:
    """A server that is started anew on its port."""

    def __init__(self, model: Path, folder: Path) -> None:
        folder.mkdir()
        self._model, self._folder = model, folder
        self._starts = 0
        self._stack = ExitStack()
        self.url = self._start("0")

    def restart(self) -> None:
        """Stop it as a supervisor does, and start it again."""
        self._server.send_signal(signal.SIGTERM)
        assert self._server.wait(30) == 0
        assert self._start(self.url.rpartition(":")[2]) == self.url

    def close(self) -> None:
        self._stack.close()

    def _start(self, port: str) -> str:
        self._starts += 1
        flags = ("--threads", "1", "--drain-seconds", "1", "--port", port)
        server = running_server(str(self._model), *flags, log=self._folder / f"log-{self._starts}")
        url, self._server = self._stack.enter_context(server)
        return url


def test_a_rolling_restart_loses_no_request(tiny_gguf: Path, tmp_path: Path) -> None:
    with ExitStack() as stack:
        nodes = [Node(tiny_gguf, tmp_path / name) for name in "ab"]
        for node in nodes:
            stack.callback(node.close)
        proxy = ReverseProxy([node.url for node in nodes])
        url = stack.enter_context(serve(proxy.app))
        pool = stack.enter_context(ThreadPoolExecutor(CALLERS))
        stop = threading.Event()
        stack.callback(stop.set)
        answers: list[list[str]] = [[] for _ in range(CALLERS)]
        callers = [pool.submit(_keep_asking, url, stop, mine) for mine in answers]
        for _ in range(ROUNDS):
            for node in nodes:
                enough = proxy.served[node.url] + CALLERS
                node.restart()
                _wait_until(partial(_has_served, proxy, node.url, enough))
        stop.set()
        for caller in callers:
            caller.result(60)
    given = [answer for mine in answers for answer in mine]
    assert all('"finish_reason":"length"' in answer for answer in given)
    print(f"{2 * ROUNDS} restarts, {len(given)} requests by {CALLERS} callers, none lost")


def _has_served(proxy: ReverseProxy, url: str, requests: int) -> bool:
    return proxy.served[url] > requests


def _keep_asking(url: str, stop: threading.Event, answers: list[str]) -> None:
    """Ask for whole answers and for streams, over a connection that is kept."""
    with httpx.Client(base_url=url, timeout=60) as http:
        while not stop.is_set():
            body = {**ASK, "stream": len(answers) % 2 == 0}
            answers.append(http.post("/v1/chat/completions", json=body).raise_for_status().text)


def _wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
