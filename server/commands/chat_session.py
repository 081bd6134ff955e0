"""A conversation in the terminal: lines in, answers out, and the commands that start with a slash."""

import signal
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

import click

from server.commands.chat_client import ChatError, ChatMessage

HELP = """\
/system TEXT  tell the model how to answer, and start anew (without TEXT: nothing special)
/clear        start anew
/help         show this
/exit         leave, as Ctrl-D does
A line that ends with \\ goes on in the next one. Ctrl-C stops an answer."""


class Answers(Protocol):
    """What a session needs of a client."""

    def stream(self, model: str, messages: tuple[ChatMessage, ...]) -> Generator[str, None, None]:
        """Return the pieces of an answer; closing it stops the answer."""


@dataclass(frozen=True, slots=True)
class Terminal:
    """How lines are read and text is written."""

    read_line: Callable[[str], str]
    """Takes a prompt; raises EOFError at the end and KeyboardInterrupt on Ctrl-C."""
    write: Callable[[str], None]
    is_interactive: bool


class Session:
    """One conversation, until the input ends."""

    def __init__(self, client: Answers, model: str, terminal: Terminal) -> None:
        """Talk to ``model`` through ``client``."""
        self._client = client
        self._model = model
        self._terminal = terminal
        self._system: tuple[ChatMessage, ...] = ()
        self._messages: list[ChatMessage] = []
        self._failed = False

    def run(self) -> bool:
        """Read and answer until the input ends; return whether every question was answered."""
        while (text := self._read()) is not None:
            if text.startswith("/"):
                if not self._obey(text):
                    break
            elif text:
                self._ask(text)
        return not self._failed

    def _read(self) -> str | None:
        """Return the next message, or None at the end of the input."""
        lines: list[str] = []
        while True:
            try:
                line = self._terminal.read_line(self._prompt("> " if not lines else "… "))
            except EOFError:
                return "\n".join(lines) or None
            except KeyboardInterrupt:
                self._terminal.write("\n(Ctrl-D or /exit leaves)\n")
                lines.clear()
                continue
            if not line.endswith("\\"):
                return "\n".join([*lines, line]).strip()
            lines.append(line[:-1])

    def _prompt(self, sign: str) -> str:
        return sign if self._terminal.is_interactive else ""

    def _obey(self, text: str) -> bool:
        """Carry out a command; return whether the conversation goes on."""
        command, _, argument = text.partition(" ")
        if command == "/exit":
            return False
        if command == "/clear":
            self._messages.clear()
        elif command == "/system":
            self._system = (ChatMessage("system", argument.strip()),) if argument.strip() else ()
            self._messages.clear()
        elif command == "/help":
            self._terminal.write(HELP + "\n")
        else:
            self._terminal.write(f"{command} is not a command; /help lists them\n")
        return True

    def _ask(self, text: str) -> None:
        question = ChatMessage("user", text)
        pieces: list[str] = []
        try:
            self._show_answer((*self._system, *self._messages, question), pieces)
        except KeyboardInterrupt:
            self._terminal.write(" [stopped]")
        except ChatError as error:
            # The question is dropped, so that the next one is not refused for the same reason.
            self._failed = True
            click.echo(f"Error: {error}", err=True)
            return
        self._terminal.write("\n")
        self._messages += [question, ChatMessage("assistant", "".join(pieces))]

    def _show_answer(self, messages: tuple[ChatMessage, ...], pieces: list[str]) -> None:
        with noted_interrupts() as interrupted, closing(self._client.stream(self._model, messages)) as stream:
            for piece in stream:
                pieces.append(piece)
                self._terminal.write(piece)
                if interrupted.is_set():
                    raise KeyboardInterrupt


@contextmanager
def noted_interrupts() -> Iterator[threading.Event]:
    """Note a Ctrl-C as well as raising it: Python drops an exception that comes up inside a finaliser."""
    noted = threading.Event()

    def note(_number: int, _frame: FrameType | None) -> None:
        noted.set()
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield noted  # no signal is handled here
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)
