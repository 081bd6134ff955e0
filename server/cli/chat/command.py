"""``glmserve chat``: a conversation with a running server, or with a model started for it."""

import os
import re
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import click
from rich.console import Console

from glmserve.cli.chat.session import Session, Terminal
from glmserve.cli.chat.slash_commands import COMMANDS, ChatConversation
from glmserve.cli.client import ServerCallError, ServerClient
from glmserve.cli.options import (
    DEFAULT_URL,
    UsageProblem,
    client_key,
    complete_model,
    reject_settings,
    settings_options,
)
from glmserve.cli.texts.chinese import say
from glmserve.config.loader import chat_history

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

    history_file: History = InMemoryHistory()
    if history is not None and _make_private(history):
        history_file = FileHistory(str(history))
    session: PromptSession[str] = PromptSession(
        history=history_file,
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


@click.command()
@click.argument("model", required=False, shell_complete=complete_model)
@click.option("--url", default=None, help=f"URL of a running server.  [default: {DEFAULT_URL}, unless MODEL is given]")
@click.option("--stats", is_flag=True, help="Show tokens and times after each answer.")
@click.option("--history/--no-history", default=True, help="Keep the input history between sessions.  [default: yes]")
@settings_options
def chat(
    *,
    model: str | None,
    url: str | None,
    stats: bool,
    history: bool,
    config: Path | None,
    api_key: tuple[str, ...],
    **flags: object,
) -> None:
    """Chat with a running server, or with MODEL, which is then loaded for this conversation only.

    MODEL and the settings are the same as for `serve`; with --url, --api-key is the key for the server. /help lists
    the commands of the conversation. If input or output is not a terminal, each line of input is a question, and the
    exit status is 1 if one of them got no answer.
    """
    history_file = chat_history() if history else None
    if model is None:
        reject_settings(flags, "a MODEL")
        ok = converse(url or DEFAULT_URL, client_key(api_key), stats=stats, history=history_file)
    elif url is not None:
        raise UsageProblem("give a MODEL or --url, not both")
    else:
        # A conversation with a running server does without all that a server of its own needs.
        from glmserve.cli.run_server import own_server  # noqa: PLC0415

        with own_server(model, config, flags) as own:
            ok = converse(own, stats=stats, history=history_file)
    if not ok:
        raise SystemExit(1)


def converse(url: str, key: str = "", *, stats: bool = False, history: Path | None = None) -> bool:
    """Talk to the server at ``url`` until the input ends; return whether every question was answered.

    What is typed is kept in the file ``history``, where there is one.

    Raises:
        ClickException: no server answers there.
    """
    with closing(ServerClient(url, key)) as client:
        try:
            name = client.model_names()[0]
        except ServerCallError as error:
            raise click.ClickException(str(error)) from None
        terminal = open_terminal(history)
        if terminal.is_interactive:
            click.echo(say("{name} at {url}; /help lists the commands, Ctrl-D leaves", name=name, url=url))
        return Session(client, ChatConversation(name, show_stats=stats), terminal).run()
