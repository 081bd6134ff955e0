"""A server in a process of its own, for measurements that do things to it."""

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.memory import family

GLMSERVE = (sys.executable, "-m", "glmserve.cli.main")


@contextlib.contextmanager
def running(arguments: list[str], folder: Path, program: Sequence[str] = GLMSERVE) -> Iterator[tuple[str, int]]:
    """Yield address and process id of a server that is ready; it writes below ``folder``, and its log there."""
    command = [*program, "serve", *arguments, "--port", "0", "--cache-dir", str(folder)]
    log = folder / "server.log"
    with log.open("wb") as sink, subprocess.Popen(command, stdout=sink, stderr=sink) as process:
        try:
            yield _address(process, log), process.pid
        finally:
            process.terminate()
            process.wait()


def engine_of(server_pid: int) -> int:
    """Return the process id of its engine."""
    children = (child for child in family(server_pid) if child != server_pid)
    return next(child for child in children if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text("utf-8"))


def _address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    while process.poll() is None:
        found = re.search(r"is ready on (http://127\.0\.0\.1:\d+)", log.read_text("utf-8"))
        if found:
            return found.group(1)
        time.sleep(0.02)
    raise SystemExit(log.read_text("utf-8"))
