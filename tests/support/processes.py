"""Finding the engine process of a running server, and what it is doing."""

import time
from pathlib import Path

import httpx


def children(pid: int, of: bytes) -> list[int]:
    """Return the children of a process whose command line has ``of`` in it."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found if of in Path(f"/proc/{child}/cmdline").read_bytes()]


def engine_pid(server_pid: int) -> int:
    """Return the child that is not multiprocessing's resource tracker."""
    for child in children(server_pid, b"spawn_main"):
        return child
    raise AssertionError("the server has no engine process")


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and it is more than an entry that nobody has asked for yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_running(url: str, count: int) -> None:
    """Wait until the first model runs ``count`` sequences."""
    for _ in range(200):
        if httpx.get(f"{url}/health").json()["models"][0]["stats"]["running"] == count:
            return
        time.sleep(0.05)
    raise AssertionError(httpx.get(f"{url}/health").text)
