"""Two servers behind smg, from PyPI, as deploy/gateway sets it up: the share of cached tokens, death, draining."""

import contextlib
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.conftest import running_server
from tests.support.slow_callers import wait_until

ROOT = Path(__file__).resolve().parents[2]
UNIT = (ROOT / "deploy" / "gateway" / "smg.service").read_text("utf-8")
PACKAGE = re.search(r"smg==[\d.]+", UNIT)
MODEL = "chatglm2-tiny"
CONVERSATIONS, TURNS = 5, 4
_DRAIN_S = 8
wait = partial(wait_until, seconds=90)


@pytest.fixture(scope="module")
def smg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The gateway in an environment of its own."""
    folder = tmp_path_factory.mktemp("smg")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    assert PACKAGE is not None
    subprocess.run([folder / "bin" / "pip", "install", "-q", PACKAGE[0]], check=True)
    return folder / "bin" / "smg"


@dataclass
class Fleet:
    """The gateway, and what is behind it."""

    url: str
    servers: list[tuple[str, subprocess.Popen[bytes]]]

    def post(self, path: str, body: dict[str, object]) -> httpx.Response:
        return httpx.post(self.url + path, json={"model": MODEL, **body}, timeout=120)


def flags_of(unit: str) -> list[str]:
    """Return what the unit sets besides addresses."""
    words = unit.partition("ExecStart=")[2].partition("\nRestart")[0].replace("\\\n", " ").split()
    return words[words.index("--policy") : words.index("--prometheus-host")]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


@pytest.fixture
def fleet(smg: Path, tiny_gguf: Path, tmp_path: Path) -> Iterator[Fleet]:
    with contextlib.ExitStack() as stack:
        servers = []
        for name in "ab":
            (tmp_path / name).mkdir()
            flags = ("--threads", "1", "--drain-seconds", str(_DRAIN_S))
            servers.append(stack.enter_context(running_server(str(tiny_gguf), *flags, log=tmp_path / name / "log")))
        port = free_port()
        command = [
            smg,
            "launch",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--worker-urls",
            *(url for url, _ in servers),
        ]
        command += [*flags_of(UNIT), "--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port())]
        log = stack.enter_context((tmp_path / "smg.log").open("wb"))
        gateway = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "HOME": str(tmp_path)})
        stack.callback(gateway.wait)
        stack.callback(gateway.terminate)
        url = f"http://127.0.0.1:{port}"
        wait(lambda: healthy(url) == 2, "the gateway does not find both servers")
        yield Fleet(url, servers)


def healthy(url: str) -> int:
    with contextlib.suppress(httpx.TransportError, ValueError):
        return int(httpx.get(f"{url}/readiness").json().get("healthy_workers", 0))
    return 0


def talk(post, number: int) -> list[tuple[int, int]]:  # type: ignore[no-untyped-def]
    """Return the prompt tokens of each turn of a conversation, and the cached ones among them."""
    opening = f"第{number}个人说：" + "".join(f"今天是{number}月{day}日，天气很好。" for day in range(1, 29))
    messages = [{"role": "user", "content": opening}]
    counts = []
    for turn in range(TURNS):
        answer = post("/v1/chat/completions", {"messages": messages, "max_tokens": 24, "temperature": 0}).json()
        usage = answer["usage"]
        counts.append((usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]))
        messages += [answer["choices"][0]["message"], {"role": "user", "content": f"那么第{turn}天呢？请说明。"}]
        messages = [{"role": one["role"], "content": one["content"]} for one in messages]
    return counts


def test_the_share_of_cached_tokens(fleet: Fleet) -> None:
    with ThreadPoolExecutor(CONVERSATIONS) as pool:
        counts = [
            one for turns in pool.map(lambda number: talk(fleet.post, number), range(CONVERSATIONS)) for one in turns
        ]
    share = sum(cached for _, cached in counts) / sum(prompt for prompt, _ in counts)
    print(f"share of cached prompt tokens behind smg: {share:.3f}")
    assert share >= 0.72
    served = [httpx.get(f"{url}/v1/loads").json()["loads"][0] for url, _ in fleet.servers]
    assert [load["num_running_reqs"] for load in served] == [0, 0]


def test_all_dialects_pass(fleet: Fleet) -> None:
    messages = [{"role": "user", "content": "你好"}]
    for path, body in (
        ("/v1/chat/completions", {"messages": messages, "max_tokens": 5}),
        ("/v1/completions", {"prompt": "你好", "max_tokens": 5}),
        ("/v1/messages", {"messages": messages, "max_tokens": 5}),
        ("/v1/responses", {"input": "你好", "max_output_tokens": 16}),
    ):
        assert fleet.post(path, body).status_code == 200, path
        streamed = fleet.post(path, {**body, "stream": True})
        assert streamed.headers["content-type"].startswith("text/event-stream"), path
        assert '"error":{' not in streamed.text, path


def ask(fleet: Fleet, number: int) -> str:
    """Return how a streamed request ended."""
    body = {"messages": [{"role": "user", "content": f"{number}：你好"}], "max_tokens": 40, "stream": True}
    body |= {"ignore_eos": True}
    answer = fleet.post("/v1/chat/completions", body)
    if answer.status_code != 200:
        return f"{answer.status_code}"
    data = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    if not data or data[-1] != "[DONE]":
        return "cut"
    errors = [one for one in map(json.loads, data[:-1]) if "error" in one]
    return str(errors[0]["error"].get("code", "error")) if errors else "whole"


@contextlib.contextmanager
def asking(fleet: Fleet, ends: list[str]) -> Iterator[None]:
    """Keep four callers asking while the block runs; their ends go to ``ends``."""
    stop, numbers = threading.Event(), itertools.count()

    def keep_asking() -> None:
        while not stop.is_set():
            ends.append(ask(fleet, next(numbers)))

    with ThreadPoolExecutor(4) as pool:
        callers = [pool.submit(keep_asking) for _ in range(4)]
        try:
            yield
        finally:
            stop.set()
            for caller in callers:
                caller.result()


def test_a_drained_server_loses_nothing(fleet: Fleet) -> None:
    ends: list[str] = []
    with asking(fleet, ends):
        wait(lambda: len(ends) >= 8, "nothing is answered")
        fleet.servers[0][1].send_signal(signal.SIGTERM)
        assert fleet.servers[0][1].wait(60) == 0
        so_far = len(ends)
        wait(lambda: len(ends) >= so_far + 8, "nothing is answered after the end of one server")
    assert set(ends) == {"whole"}


def test_a_killed_server_costs_the_answers_that_it_wrote(fleet: Fleet) -> None:
    ends: list[str] = []
    with asking(fleet, ends):
        wait(lambda: len(ends) >= 8, "nothing is answered")
        fleet.servers[0][1].kill()
        killed = len(ends)
        wait(lambda: healthy(fleet.url) == 1, "the gateway does not notice the death")
        time.sleep(0.5)
        noticed = len(ends)
        wait(lambda: len(ends) >= noticed + 12, "nothing is answered after the death")
    assert set(ends[:killed]) == {"whole"}
    assert set(ends[noticed + 4 :]) == {"whole"}
