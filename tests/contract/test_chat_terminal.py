"""``glmserve chat`` in a terminal: the keys that stop an answer and leave."""

import os
import pty
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.api import make_app, serve
from tests.support.scripted_engine import ScriptedEngine

GLMSERVE = str(Path(sys.executable).with_name("glmserve"))
CTRL_C, CTRL_D = b"\x03", b"\x04"
# A terminal sends Ctrl-C to the session that controls it: the one that opened it first.
TAKE_TERMINAL = "import os, sys; os.close(os.open(os.ttyname(0), os.O_RDWR)); os.execv(sys.argv[1], sys.argv[1:])"


@dataclass
class Keyboard:
    """The other end of a program's terminal."""

    master: int
    seen: bytes = b""

    def press(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def wait_for(self, text: bytes) -> None:
        """Read until ``text`` is on the screen, after what was waited for before."""
        deadline = time.monotonic() + 30
        while text not in self.seen:
            assert time.monotonic() < deadline, self.seen
            self.seen += os.read(self.master, 1024)
        self.seen = self.seen.partition(text)[2]


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine(endless=True, step_seconds=0.02)


@pytest.fixture
def chat(engine: ScriptedEngine) -> Iterator[tuple[subprocess.Popen[bytes], Keyboard]]:
    master, slave = pty.openpty()
    with serve(make_app(engine)) as url:
        command = [sys.executable, "-c", TAKE_TERMINAL, GLMSERVE, "chat", "--url", url]
        process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)
        try:
            yield process, Keyboard(master)
        finally:
            process.kill()
            process.wait()
            os.close(master)


def test_ctrl_c_stops_the_answer_and_ctrl_d_leaves(
    chat: tuple[subprocess.Popen[bytes], Keyboard], engine: ScriptedEngine
) -> None:
    process, keyboard = chat
    keyboard.wait_for(b"> ")
    keyboard.press(b"hello\n")
    keyboard.wait_for("你问的是：hello".encode())
    assert engine.running == 1
    keyboard.press(CTRL_C)
    keyboard.wait_for(b"[stopped]")
    keyboard.wait_for(b"> ")
    deadline = time.monotonic() + 10
    while engine.running:
        assert time.monotonic() < deadline, "the answer goes on at the server"
        time.sleep(0.02)
    keyboard.press(CTRL_D)
    assert process.wait(20) == 0
