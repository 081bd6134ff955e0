"""``glmserve chat``: a conversation with a running server, or with a model started for it."""

from contextlib import closing
from pathlib import Path

import click

from glmserve.cli.chat.client import ChatClient
from glmserve.cli.chat.session import Session
from glmserve.cli.chat.slash_commands import ChatConversation
from glmserve.cli.chat.terminal import open_terminal
from glmserve.cli.http_client import ServerCallError
from glmserve.cli.options import DEFAULT_URL, UsageProblem, client_key, read_settings, settings_options
from glmserve.cli.shell_completion import complete_model
from glmserve.config.loader import chat_history


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
    kept = chat_history() if history else None
    if model is None:
        if given := [name for name, value in flags.items() if value is not None and value != ()]:
            raise UsageProblem(f"--{given[0].replace('_', '-')} needs a MODEL; a running server has its own settings")
        ok = converse(url or DEFAULT_URL, client_key(api_key), stats=stats, history=kept)
    elif url is not None:
        raise UsageProblem("give a MODEL or --url, not both")
    else:
        # A conversation with a running server does without all that a server of its own needs.
        from glmserve.cli.chat.local_server import started  # noqa: PLC0415

        settings = read_settings((model,), config, {**flags, "log_level": flags["log_level"] or "warning"})
        # Nobody else gets at the server of this conversation, so it needs none of the keys of others.
        with started(settings.model_copy(update={"api_key": (), "api_key_file": None})) as own:
            ok = converse(own, stats=stats, history=kept)
    if not ok:
        raise SystemExit(1)


def converse(url: str, key: str = "", *, stats: bool = False, history: Path | None = None) -> bool:
    """Talk to the server at ``url`` until the input ends; return whether every question was answered.

    What is typed is kept in the file ``history``, where there is one.

    Raises:
        ClickException: nobody answers there.
    """
    with closing(ChatClient(url, key)) as client:
        try:
            name = client.model_names()[0]
        except ServerCallError as error:
            raise click.ClickException(str(error)) from None
        terminal = open_terminal(history)
        if terminal.is_interactive:
            click.echo(f"{name} at {url}; /help lists the commands, Ctrl-D leaves")
        return Session(client, ChatConversation(name, show_stats=stats), terminal).run()
