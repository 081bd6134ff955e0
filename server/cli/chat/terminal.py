"""Where a conversation is typed and shown: a line editor in a terminal, plain lines in a pipe."""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console

from glmserve.cli.chat.session import Terminal
from glmserve.cli.chat.slash_commands import COMMANDS

_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Characters that would move the cursor, recolour the terminal or reverse its text."""


def open_terminal(history: Path | None) -> Terminal:
    """Return the terminal of this process; ``history`` is where questions are kept from one session to the next."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return Terminal(_plain_line, lambda text: click.echo(text, nl=False), is_interactive=False)
    return Terminal(
        _editor(history),
        lambda text: click.echo(for_screen(text), nl=False),
        is_interactive=True,
        waiting=lambda: Console().status("…"),
    )


def for_screen(text: str) -> str:
    """Return ``text`` as a terminal can be given it."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


def _plain_line(_prompt: str) -> str:
    return input().encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _editor(history: Path | None) -> Callable[[str], str]:
    """Return the message editor: several lines, history with the arrows, completion with Tab."""
    # Only a terminal needs it, and it takes a tenth of a second to load.
    from prompt_toolkit import PromptSession  # noqa: PLC0415
    from prompt_toolkit.completion import WordCompleter  # noqa: PLC0415
    from prompt_toolkit.history import FileHistory, History, InMemoryHistory  # noqa: PLC0415
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent  # noqa: PLC0415

    keys = KeyBindings()

    @keys.add("escape", "enter")
    def _new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("enter")
    def _send(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    kept: History = InMemoryHistory()
    if history is not None and _make_private(history):
        kept = FileHistory(str(history))
    session: PromptSession[str] = PromptSession(
        history=kept,
        key_bindings=keys,
        multiline=True,
        prompt_continuation=lambda _width, _line, wrapped: "" if wrapped else "… ",
        completer=WordCompleter([command.name for command in COMMANDS], sentence=True),
        complete_while_typing=False,
        reserve_space_for_menu=4,
    )
    return session.prompt


def _make_private(history: Path) -> bool:
    """Make the file, for its owner alone; return whether it can be used."""
    try:
        history.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(history, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        click.echo(f"questions are not kept: {history}: {error.strerror}", err=True)
        return False
    return True
