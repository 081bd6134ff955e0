"""Several servers behind a gateway, and callers that talk to them through it."""

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
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

from tests.conftest import running_server
from tests.support.slow_callers import wait_until

GATEWAY = Path(__file__).resolve().parents[2] / "deploy" / "gateway"
MODEL = "chatglm2-tiny"
CONVERSATIONS, TURNS = 5, 4
_DRAIN_S = 8
wait = partial(wait_until, seconds=90)


@dataclass
class Fleet:
    """The gateway, and what is behind it."""

    url: str
    servers: list[tuple[str, subprocess.Popen[bytes]]]

    def healthy(self) -> int:
        """Return how many servers the gateway takes for healthy."""
        with contextlib.suppress(httpx.TransportError, ValueError):
            return int(httpx.get(f"{self.url}/readiness").json().get("healthy_workers", 0))
        return 0

    def post(self, path: str, body: dict[str, object]) -> httpx.Response:
        """Ask through the gateway."""
        return httpx.post(self.url + path, json={"model": MODEL, **body}, timeout=120)


def installed(package: str, program: str, folder: Path) -> Path:
    """Install a package from PyPI in an environment of its own, and return its program."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    subprocess.run([folder / "bin" / "pip", "install", "-q", package], check=True)
    return folder / "bin" / program


def package_of(unit: str) -> str:
    """Return what a unit of systemd says is to be installed."""
    found = re.search(r"[\w-]+==[\d.]+", unit)
    assert found is not None
    return found[0]


def flags_of(unit: str) -> list[str]:
    """Return what a unit sets besides addresses."""
    words = unit.partition("ExecStart=")[2].partition("\nRestart")[0].replace("\\\n", " ").split()
    return words[words.index("--policy") : words.index("--prometheus-host")]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


@contextlib.contextmanager
def two_servers(gguf: Path, folder: Path) -> Iterator[list[tuple[str, subprocess.Popen[bytes]]]]:
    """Yield the addresses and processes of two servers with a thread each."""
    flags = ("--threads", "1", "--drain-seconds", str(_DRAIN_S))
    with contextlib.ExitStack() as stack:
        for name in "ab":
            (folder / name).mkdir()
        yield [stack.enter_context(running_server(str(gguf), *flags, log=folder / name / "log")) for name in "ab"]


@contextlib.contextmanager
def behind(command: list[str | Path], gguf: Path, folder: Path) -> Iterator[Fleet]:
    """Yield two servers behind the gateway that ``command`` starts, with addresses and ports added to it."""
    with two_servers(gguf, folder) as servers, (folder / "gateway.log").open("wb") as log:
        port = free_port()
        words = [*command, "--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(free_port())]
        words += ["--prometheus-host", "127.0.0.1", "--worker-urls", *(url for url, _ in servers)]
        gateway = subprocess.Popen(words, stdout=log, stderr=log, env={**os.environ, "HOME": str(folder)})
        fleet = Fleet(f"http://127.0.0.1:{port}", servers)
        try:
            wait(lambda: fleet.healthy() == 2, "the gateway does not find both servers")
            yield fleet
        finally:
            gateway.terminate()
            gateway.wait()


def talk(post: Callable[[str, dict[str, object]], httpx.Response], number: int) -> list[tuple[int, int]]:
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


def cached_share(post: Callable[[int], Callable[[str, dict[str, object]], httpx.Response]]) -> float:
    """Return which share of the prompt tokens of all conversations was cached; ``post`` asks for one of them."""
    with ThreadPoolExecutor(CONVERSATIONS) as pool:
        turns = pool.map(lambda number: talk(post(number), number), range(CONVERSATIONS))
        counts = [one for conversation in turns for one in conversation]
    return sum(cached for _, cached in counts) / sum(prompt for prompt, _ in counts)


def ask(fleet: Fleet, number: int) -> str:
    """Return how a streamed request ended."""
    body = {"messages": [{"role": "user", "content": f"{number}：你好"}], "max_tokens": 40, "stream": True}
    body |= {"ignore_eos": True}
    try:
        answer = fleet.post("/v1/chat/completions", body)
    except (httpx.RemoteProtocolError, httpx.ReadError):  # vllm-router lets the caller see the end of a server
        return "cut"
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


def drain_one(fleet: Fleet) -> list[str]:
    """End one server as an update does while callers ask; return how their requests ended."""
    ends: list[str] = []
    with asking(fleet, ends):
        wait(lambda: len(ends) >= 8, "nothing is answered")
        fleet.servers[0][1].send_signal(signal.SIGTERM)
        assert fleet.servers[0][1].wait(60) == 0
        so_far = len(ends)
        wait(lambda: len(ends) >= so_far + 8, "nothing is answered after the end of one server")
    return ends


def kill_one(fleet: Fleet) -> tuple[list[str], list[str]]:
    """Kill one server while callers ask; return how requests ended before it, and once the gateway has noticed."""
    ends: list[str] = []
    with asking(fleet, ends):
        wait(lambda: len(ends) >= 8, "nothing is answered")
        fleet.servers[0][1].kill()
        killed = len(ends)
        wait(lambda: fleet.healthy() == 1, "the gateway does not notice the death")
        noticed = len(ends)
        wait(lambda: len(ends) >= noticed + 16, "nothing is answered after the death")
    # Up to four were under way when it was noticed.
    return ends[:killed], ends[noticed + 4 :]
