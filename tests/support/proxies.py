"""nginx, Caddy and HAProxy, where they are installed, on a free port."""

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.slow_callers import wait_until


@contextlib.contextmanager
def running_proxy(program: str, command: list[str], configuration: str, folder: Path) -> Iterator[str]:
    """Yield the address of a proxy; skip the test where that program is not installed.

    Args:
        program: its name.
        command: that starts it with the file ``conf`` of its folder.
        configuration: what is in the file; ``{port}`` is the port to listen on.
        folder: where it runs.
    """
    found = shutil.which(program, path="/usr/sbin:/usr/bin:/usr/local/bin:/usr/local/sbin")
    if not found:
        pytest.skip(f"{program} is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "conf").write_text(configuration.replace("{port}", str(port)))
    environment = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen([found, *command[1:]], cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        wait_until(lambda: _answers(port), f"{program} did not start: {(folder / 'log').read_text()}")
        yield f"http://127.0.0.1:{port}"
    finally:
        running.terminate()
        running.wait(10)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
