"""The state of a conversation in the terminal, and the commands that change and show it."""

import difflib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import click
from pydantic import BaseModel, ConfigDict, ValidationError

from glmserve.cli.client import AnswerStats, SentMessage
from glmserve.convert.atomic_file import complete_file
from glmserve.convert.errors import OutputError

SAMPLING: Mapping[str, type[float] | type[int]] = MappingProxyType(
    {
        "temperature": float, "top_p": float, "top_k": int, "max_tokens": int, "seed": int,
        "repetition_penalty": float, "presence_penalty": float, "frequency_penalty": float,
    }
)  # fmt: skip
"""Parameters of /set, by the names of the API, which checks the values."""


class CommandProblem(Exception):
    """A command failed; the message is one line with the reason."""


@dataclass(frozen=True, slots=True)
class Command:
    """A line of the help."""

    name: str
    argument: str
    help: str


COMMANDS = (
    Command("/system", "TEXT", "tell the model how to answer, and start anew (without TEXT: nothing special)"),
    Command("/clear", "", "start anew"),
    Command("/regenerate", "", "answer the last question again"),
    Command("/set", "NAME VALUE", "sample otherwise, as in /set temperature 0.2 (without VALUE: as the server does)"),
    Command("/model", "NAME", "go on with another model (without NAME: list them)"),
    Command("/stats", "", "show tokens and times after each answer, or no longer"),
    Command("/save", "FILE", "write the conversation to a file"),
    Command("/load", "FILE", "go on with the one in a file"),
    Command("/help", "", "show this"),
    Command("/exit", "", "leave, as Ctrl-D does"),
)
_MOST_BYTES = 64 << 20
"""Of a conversation; a larger file is none."""
_KEYS = '''\
Enter sends. A line that ends with \\ goes on in the next one, as does what begins with """ until """ ends it; in a \
terminal Alt-Enter begins a new line, and the arrows find what was asked before. Ctrl-C stops an answer.'''


class _Saved(BaseModel):
    """The file of /save; ``system`` and ``sampling`` are optional in files written by hand."""

    model_config = ConfigDict(extra="forbid")

    model: str = ""
    system: str = ""
    sampling: dict[str, float | int] = {}
    messages: list[SentMessage]


@dataclass(slots=True)
class ChatConversation:
    """The conversation so far, and the parameters of the next answer."""

    model: str
    system: str = ""
    messages: list[SentMessage] = field(default_factory=list)
    sampling: dict[str, float | int] = field(default_factory=dict)
    show_stats: bool = False
    last: AnswerStats | None = None

    def with_question(self, question: SentMessage) -> tuple[SentMessage, ...]:
        """Return all messages of a request that asks ``question``."""
        system = (SentMessage("system", self.system),) if self.system else ()
        return (*system, *self.messages, question)


class Commands:
    """Carries out the commands that ask no model."""

    def __init__(self, talk: ChatConversation, models: Callable[[], tuple[str, ...]]) -> None:
        """Work on ``talk``; ``models`` asks the server for its models."""
        self._talk = talk
        self._models = models
        self._run: Mapping[str, Callable[[str], str]] = {
            "/system": self._system, "/clear": self._clear, "/set": self._set, "/model": self._model,
            "/stats": self._stats, "/save": self._save, "/load": self._load, "/help": lambda _: help_text(),
        }  # fmt: skip

    def obey(self, text: str) -> str:
        """Carry out ``text`` and return the message to print, possibly empty.

        Raises:
            CommandProblem: there is no such command, or it cannot be carried out.
            ServerCallError: the server could not be asked.
        """
        name, _, argument = text.partition(" ")
        if name not in self._run:
            raise CommandProblem(f"{name} is not a command{_suggestion(name)}; /help lists them")
        return self._run[name](argument.strip())

    def _system(self, text: str) -> str:
        self._talk.system = text
        return self._clear("")

    def _clear(self, _: str) -> str:
        self._talk.messages.clear()
        return ""

    def _set(self, argument: str) -> str:
        name, _, text = argument.replace("=", " ").partition(" ")
        if not name:
            given = self._talk.sampling
            return "\n".join(f"{name} {given.get(name, 'as the server does')}" for name in SAMPLING)
        if name not in SAMPLING:
            raise CommandProblem(f"{name} cannot be set; these can: {', '.join(SAMPLING)}")
        if not text.strip():
            self._talk.sampling.pop(name, None)
            return ""
        try:
            self._talk.sampling[name] = SAMPLING[name](text)
        except ValueError:
            kind = "a whole number" if SAMPLING[name] is int else "a number"
            raise CommandProblem(f"{name} is {kind}, not {text.strip()}") from None
        return ""

    def _model(self, name: str) -> str:
        names = self._models()
        if not name:
            return "\n".join(f"{'*' if one == self._talk.model else ' '} {one}" for one in names)
        if name not in names:
            raise CommandProblem(f"there is no model {name}; the models are {', '.join(names)}")
        self._talk.model = name
        return ""

    def _stats(self, _: str) -> str:
        self._talk.show_stats = not self._talk.show_stats
        if self._talk.show_stats and self._talk.last is not None:
            return self._talk.last.in_words
        return "from the next answer on" if self._talk.show_stats else ""

    def _save(self, name: str) -> str:
        path = _path(name, "/save")
        talk = self._talk
        saved = _Saved(model=talk.model, system=talk.system, sampling=talk.sampling, messages=talk.messages)
        try:
            _check_own(path)
            data = (saved.model_dump_json(indent=2) + "\n").encode("utf-8")
            with complete_file(path, len(data)) as file:
                file.write(data)
        except OutputError as error:
            raise CommandProblem(str(error)) from None
        except OSError as error:
            raise CommandProblem(f"{path}: cannot be written ({error.strerror})") from None
        return f"{len(talk.messages)} messages are in {path}"

    def _load(self, name: str) -> str:
        path = _path(name, "/load")
        try:
            saved = _Saved.model_validate_json(_content(path))
        except OSError as error:
            raise CommandProblem(f"{path}: cannot be read ({error.strerror})") from None
        except ValidationError:
            raise CommandProblem(f"{path} is not a conversation that /save wrote") from None
        self._talk.system, self._talk.messages = saved.system, list(saved.messages)
        self._talk.sampling = {name: value for name, value in saved.sampling.items() if name in SAMPLING}
        return f"{len(saved.messages)} messages were read"


def help_text() -> str:
    """Return the text of /help."""
    page = click.HelpFormatter(width=shutil.get_terminal_size().columns)
    page.write_dl([(f"{command.name} {command.argument}".rstrip(), command.help) for command in COMMANDS])
    page.write_text(_KEYS)
    return page.getvalue().rstrip()


def _content(path: Path) -> bytes:
    """Return the content of a file, or the part of it that shows it to be no conversation. Raises OSError."""
    if path.exists() and not path.is_file():
        return b""  # a device or a pipe may never end
    with path.open("rb") as file:
        return file.read(_MOST_BYTES)


def _path(name: str, command: str) -> Path:
    if not name or name == "-":
        raise CommandProblem(f"{command} needs a file name")
    return Path(name).expanduser()


def _check_own(path: Path) -> None:
    """Do not replace a file that /save did not write. Raises CommandProblem, OSError."""
    if not path.is_file():
        return  # nothing, or what ``complete_file`` rejects
    try:
        _Saved.model_validate_json(_content(path))
    except ValidationError:
        raise CommandProblem(f"{path} exists and is not a conversation that /save wrote; choose another name") from None


def _suggestion(name: str) -> str:
    close = difflib.get_close_matches(name, [command.name for command in COMMANDS], n=1)
    return f", is {close[0]} meant?" if close else ""
