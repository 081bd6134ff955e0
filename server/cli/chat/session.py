"""A conversation in the terminal: messages in, answers out, and the commands that start with a slash."""

import signal
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

import click

from glmserve.cli.chat.slash_commands import ChatConversation, CommandProblem, Commands
from glmserve.cli.client import AnswerStats, SentMessage, ServerCallError

_QUOTES = '"""'


class Answers(Protocol):
    """The client that a session needs."""

    def model_names(self) -> tuple[str, ...]:
        """Return the names of the models that are served. Raises ServerCallError."""

    def stream(
        self, model: str, messages: tuple[SentMessage, ...], sampling: Mapping[str, object]
    ) -> Generator[str | AnswerStats, None, None]:
        """Return the pieces of an answer, then its figures; closing it stops the answer. Raises ServerCallError."""


@dataclass(frozen=True, slots=True)
class Terminal:
    """How lines are read and text is written."""

    read_line: Callable[[str], str]
    """Takes a prompt; raises EOFError at the end and KeyboardInterrupt on Ctrl-C."""
    write: Callable[[str], None]
    is_interactive: bool
    waiting: Callable[[], AbstractContextManager[object]] = nullcontext
    """Shows until its block ends that an answer is being waited for."""


class Session:
    """One conversation, until the input ends."""

    def __init__(self, client: Answers, talk: ChatConversation, terminal: Terminal) -> None:
        """Continue with ``talk`` through ``client``."""
        self._client = client
        self._talk = talk
        self._commands = Commands(talk, client.model_names)
        self._terminal = terminal
        self._failed = False

    def run(self) -> bool:
        """Read and answer until the input ends; return whether every question was answered."""
        while (text := self._read()) is not None:
            if text == "/exit":
                break
            if text == "/regenerate":
                self._regenerate()
            elif text.startswith("/"):
                self._obey(text)
            elif text:
                self._ask(text)
        return not self._failed

    def _read(self) -> str | None:
        """Return the next message, or None at the end of the input."""
        lines: list[str] = []
        while True:
            try:
                lines.append(self._terminal.read_line(self._prompt("… " if lines else "> ")))
            except EOFError:
                return _message(lines) if lines else None
            except KeyboardInterrupt:
                self._terminal.write("(Ctrl-D or /exit leaves)\n")
                lines.clear()
                continue
            if not _goes_on(lines):
                return _message(lines)

    def _prompt(self, sign: str) -> str:
        return sign if self._terminal.is_interactive else ""

    def _obey(self, text: str) -> None:
        try:
            reply = self._commands.obey(text)
        except (CommandProblem, ServerCallError) as error:
            self._tell_error(error)
        else:
            self._terminal.write(f"{reply}\n" if reply else "")

    def _regenerate(self) -> None:
        before = self._talk.messages[:]
        questions = [index for index, message in enumerate(before) if message.role == "user"]
        if not questions:
            self._tell_error(CommandProblem("nothing was asked yet"))
            return
        del self._talk.messages[questions[-1] :]
        if not self._ask(before[questions[-1]].content):
            self._talk.messages[:] = before

    def _tell_error(self, error: Exception) -> None:
        self._failed = True
        click.echo(f"Error: {error}", err=True)

    def _ask(self, text: str) -> bool:
        """Show the answer, and remember it with its question; return whether there was one."""
        question = SentMessage("user", text)
        pieces: list[str] = []
        self._talk.last = None
        try:
            self._show_answer(self._talk.with_question(question), pieces)
        except KeyboardInterrupt:
            self._terminal.write(" [stopped]")
        except ServerCallError as error:
            # The question is dropped, so that the next one is not rejected for the same reason.
            self._tell_error(error)
            return False
        self._terminal.write("\n")
        self._talk.messages += [question, SentMessage("assistant", "".join(pieces))]
        if self._talk.show_stats and self._talk.last is not None:
            click.echo(f"[{self._talk.last.in_words}]", err=True)
        return True

    def _show_answer(self, messages: tuple[SentMessage, ...], pieces: list[str]) -> None:
        talk = self._talk
        with (
            noted_interrupts() as interrupted,
            closing(self._client.stream(talk.model, messages, talk.sampling)) as stream,
        ):
            piece: str | AnswerStats = ""
            with self._terminal.waiting():
                while piece == "":
                    piece = next(stream, AnswerStats())
            while not isinstance(piece, AnswerStats):
                if piece:
                    pieces.append(piece)
                    self._terminal.write(piece)
                if interrupted.is_set():
                    raise KeyboardInterrupt
                piece = next(stream, AnswerStats())
            talk.last = piece


def _goes_on(lines: list[str]) -> bool:
    """Return whether the input so far is an incomplete message."""
    text = "\n".join(lines).strip()
    if text.startswith(_QUOTES):
        return len(text) < 2 * len(_QUOTES) or not text.endswith(_QUOTES)
    return lines[-1].endswith("\\")


def _message(lines: list[str]) -> str:
    text = "\n".join(lines).strip()
    if text.startswith(_QUOTES):
        return text.removeprefix(_QUOTES).removesuffix(_QUOTES).strip("\n")
    return "\n".join(line.removesuffix("\\") for line in lines).strip()


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
