"""`glmserve serve` with more than one name: each engine in a process of its own, there only while it is needed."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.conftest import running_server

CONFIG = """
threads = 1
default_max_tokens = 5

[[models]]
model = "{gguf}"
name = "always"

[[models]]
model = "{gguf}"
name = "sometimes"
alias = ["on-demand"]
load = "first_use"
idle_seconds = 1.0
parallel = 2
"""


ENDLESS = {"max_tokens": 1900, "ignore_eos": True}


def engines(server: subprocess.Popen[bytes]) -> set[int]:
    """The process ids of the server's engines."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    return {int(pid) for pid in children if b"spawn_main" in command_of(pid)}


def command_of(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


@pytest.fixture
def server(tiny_gguf: Path, tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    config = tmp_path / "glmserve.toml"
    config.write_text(CONFIG.format(gguf=tiny_gguf))
    with running_server("--config", str(config), log=tmp_path / "log") as (url, process):
        yield url, process


def ask(url: str, model: str) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": "你是谁？"}], "temperature": 0}
    reply = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)
    assert reply.status_code == 200, reply.text
    return str(reply.json()["choices"][0]["message"]["content"])


@contextmanager
def answering(url: str, model: str) -> Iterator[None]:
    """Keep ``model`` loaded by an answer that is not read to its end."""
    body = {"model": model, "messages": [{"role": "user", "content": "你好"}], "stream": True, **ENDLESS}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as reply:
        assert reply.status_code == 200
        next(reply.iter_lines())
        yield


def state_of(url: str, model: str) -> str:
    return str(httpx.get(f"{url}/v1/models/{model}").json()["state"])


def test_an_engine_comes_with_the_first_request_goes_when_idle_and_comes_again(
    server: tuple[str, subprocess.Popen[bytes]],
) -> None:
    url, process = server
    at_first = engines(process)
    assert len(at_first) == 1
    assert httpx.get(f"{url}/health").status_code == 200
    assert state_of(url, "sometimes") == "idle"

    answer = ask(url, "on-demand")
    with answering(url, "on-demand"):
        (loaded,) = engines(process) - at_first
        assert state_of(url, "sometimes") == "ready"
    wait_until(lambda: engines(process) == at_first)
    assert command_of(str(loaded)) == b""
    wait_until(lambda: state_of(url, "sometimes") == "idle")

    assert ask(url, "sometimes") == answer == ask(url, "always")
    with answering(url, "sometimes"):
        (again,) = engines(process) - at_first
        assert again != loaded
        health = httpx.get(f"{url}/health").json()
        assert [model["engine"]["parallel"] for model in health["models"]] == [8, 2]


def test_an_engine_that_is_gone_leaves_no_file_descriptors(server: tuple[str, subprocess.Popen[bytes]]) -> None:
    """Two were kept for ten minutes after each time that a model was unloaded or its process died."""
    url, process = server
    at_first = engines(process)
    counts = []
    for _ in range(4):
        ask(url, "sometimes")
        wait_until(lambda: engines(process) == at_first)
        wait_until(lambda: state_of(url, "sometimes") == "idle")
        counts.append(sum(1 for _ in Path(f"/proc/{process.pid}/fd").iterdir()))
    # One more or fewer is a connection of a caller.
    assert counts[-1] <= counts[0] + 2, counts


def test_two_arguments_are_two_models(tiny_gguf: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    other.symlink_to(tiny_gguf)
    flags = ("--threads", "1", "--default-model", "other")
    with running_server(str(tiny_gguf), str(other), *flags, log=tmp_path / "log") as (url, process):
        assert len(engines(process)) == 2
        listed = httpx.get(f"{url}/v1/models").json()["data"]
        assert [card["id"] for card in listed if card["kind"] != "task"] == ["other", "chatglm2-tiny"]
        assert httpx.post(f"{url}/chatglm", json={"prompt": "你好"}, timeout=60).json()["status"] == 200
    assert "glmserve is ready on" in (tmp_path / "log").read_text("utf-8")
