"""Finding the engine process of a running server, and what it is doing."""

import time
from pathlib import Path

import httpx


def engine_pid(server_pid: int) -> int:
    """Return the child that is not multiprocessing's resource tracker."""
    for child in Path(f"/proc/{server_pid}/task/{server_pid}/children").read_text().split():
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
            return int(child)
    raise AssertionError("the server has no engine process")


def wait_running(url: str, count: int) -> None:
    """Wait until the first model runs ``count`` sequences."""
    for _ in range(200):
        if httpx.get(f"{url}/health").json()["models"][0]["stats"]["running"] == count:
            return
        time.sleep(0.05)
    raise AssertionError(httpx.get(f"{url}/health").text)
