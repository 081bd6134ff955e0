"""``glmserve chat``: a conversation with a running server, or with a model started for it."""

import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from queue import Queue

import click

from server.commands.chat_client import ChatClient, ChatError
from server.commands.chat_session import Session, Terminal
from server.commands.options import UsageProblem, read_settings, settings_options
from server.commands.prepare import prepare
from server.engine.interface import EngineState, EngineStatus
from server.logs import configure_logging
from server.serving import Server, base_url, bind
from server.settings.table import Settings

DEFAULT_URL = "http://127.0.0.1:8000"


@click.command()
@click.argument("model", required=False)
@click.option("--url", default=None, help=f"A running server.  [default: {DEFAULT_URL}, unless MODEL is given]")
@settings_options
def chat(model: str | None, url: str | None, config: Path | None, api_key: tuple[str, ...], **flags: object) -> None:
    """Talk to a running server; or to MODEL, which is then loaded for this conversation alone.

    MODEL and the settings are those of `serve`; --api-key is for a running server that asks for one. Type /help in
    the conversation for what else there is.
    """
    if model is None:
        if given := [name for name, value in flags.items() if value is not None and value != ()]:
            raise UsageProblem(f"--{given[0].replace('_', '-')} is for a MODEL started here, and none is given")
        ok = converse(url or DEFAULT_URL, next(iter(api_key), ""))
    elif url is not None:
        raise UsageProblem("give a MODEL or --url, not both")
    else:
        settings = read_settings((model,), config, {**flags, "log_level": flags["log_level"] or "warning"})
        # Nobody else gets at the server of this conversation, so it needs none of the keys of others.
        with started(settings.model_copy(update={"api_key": (), "api_key_file": None})) as own:
            ok = converse(own)
    if not ok:
        raise SystemExit(1)


def converse(url: str, key: str = "") -> bool:
    """Talk to the server at ``url`` until the input ends; return whether every question was answered.

    Raises:
        ClickException: nobody answers there.
    """
    with closing(ChatClient(url, key)) as client:
        try:
            name = client.model_name()
        except ChatError as error:
            raise click.ClickException(str(error)) from None
        terminal = _terminal()
        if terminal.is_interactive:
            click.echo(f"{name} at {url}; /help lists the commands, Ctrl-D leaves")
        return Session(client, name, terminal).run()


@contextmanager
def started(settings: Settings) -> Iterator[str]:
    """Serve a model on a free port while the block runs; yields the address.

    Raises:
        ClickException: the model cannot be served.
    """
    configure_logging(settings.log_level, settings.log_format, with_texts=settings.log_prompts)
    settled: Queue[EngineStatus] = Queue()
    with closing(bind("127.0.0.1", 0)) as listener:
        assembly = prepare(settings)
        server = Server(assembly, settings, lambda: settled.put(assembly.registry.get(None).status))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            status = settled.get()
            if status.state is EngineState.FAILED:
                raise click.ClickException(status.reason)
            yield base_url(listener)
        finally:
            server.should_exit = True
            thread.join()


def _terminal() -> Terminal:
    interactive = sys.stdin.isatty()
    if interactive and find_spec("readline"):
        import_module("readline")  # gives input() line editing and a history
    return Terminal(
        read_line=input,
        write=lambda text: click.echo(text, nl=False),
        is_interactive=interactive,
    )
