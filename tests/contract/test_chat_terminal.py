"""``glmserve chat`` in a terminal: the keys that stop an answer and leave."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from glmserve.cli.chat.command import for_screen
from tests.support.api import make_app, serve
from tests.support.scripted_engine import ScriptedEngine

GLMSERVE = str(Path(sys.executable).with_name("glmserve"))
CTRL_C, CTRL_D, ENTER, ALT_ENTER, LEFT, UP, BACKSPACE = (
    b"\x03", b"\x04", b"\r", b"\x1b\r", b"\x1b[D", b"\x1b[A", b"\x7f",
)  # fmt: skip
READY = b"\x1b[?2004h"
"""What the line editor sends when it begins to read: pasted text shall be marked as such."""
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
        deadline = time.monotonic() + 20
        while text not in self.seen:
            readable, _, _ = select.select([self.master], [], [], max(0.0, deadline - time.monotonic()))
            assert readable, self.seen
            self.seen += os.read(self.master, 1024)
        self.seen = self.seen.partition(text)[2]


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine(endless=True, step_seconds=0.02)


@pytest.fixture
def chat(engine: ScriptedEngine, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Keyboard]]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    # This terminal does not say where its cursor is, so it is not to be asked.
    home = {**os.environ, "XDG_STATE_HOME": str(tmp_path), "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
    with serve(make_app(engine)) as url:
        command = [sys.executable, "-c", TAKE_TERMINAL, GLMSERVE, "chat", "--url", url]
        process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, env=home)
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
    keyboard.wait_for(READY)
    keyboard.press(b"hello\n")
    keyboard.wait_for("你问的是：hello".encode())
    assert engine.running == 1
    keyboard.press(CTRL_C)
    keyboard.wait_for(b"[stopped]")
    keyboard.wait_for(READY)
    deadline = time.monotonic() + 10
    while engine.running:
        assert time.monotonic() < deadline, "the answer goes on at the server"
        time.sleep(0.02)
    keyboard.press(CTRL_D)
    assert process.wait(20) == 0


def test_chinese_is_edited_by_the_character_and_a_message_may_have_several_lines(
    chat: tuple[subprocess.Popen[bytes], Keyboard], engine: ScriptedEngine, tmp_path: Path
) -> None:
    _, keyboard = chat
    keyboard.wait_for(READY)
    keyboard.press("今天下雨吗".encode() + LEFT + LEFT + BACKSPACE + "不下".encode() + ALT_ENTER + b"two")
    keyboard.wait_for(b"two")
    keyboard.press(ENTER)
    keyboard.wait_for("你问的是：".encode())
    assert "问：今天不下\ntwo雨吗\n\n答：" in engine.submissions[-1].prompt
    keyboard.press(CTRL_C)
    keyboard.wait_for(b"[stopped]")
    history = tmp_path / "glmserve" / "chat_history"
    assert "今天不下" in history.read_text("utf-8")
    assert history.stat().st_mode & 0o077 == 0
    keyboard.wait_for(READY)
    keyboard.press(UP)
    keyboard.wait_for("雨吗".encode())


def test_a_model_cannot_send_the_terminal_its_commands() -> None:
    assert for_screen("a\x1b]0;title\x07b\tc\nd\u202ee") == "a\ufffd]0;title\ufffdb\tc\nd\ufffde"
