"""``glmserve serve``: load a model and answer."""

import logging
from contextlib import closing
from pathlib import Path

import click

from server.commands.banner import ready_banner
from server.commands.options import read_settings, settings_options
from server.commands.prepare import configure_logging, prepare
from server.engine.interface import EngineState, EngineStatus
from server.serving import AddressError, Server, base_url, bind
from server.settings import Settings

log = logging.getLogger(__name__)


@click.command()
@click.argument("model", required=False)
@settings_options
def serve(model: str | None, config: Path | None, **flags: object) -> None:
    """Serve MODEL over HTTP.

    MODEL is nothing (the embedded demonstration model), a .gguf file, a checkpoint folder, which is converted once
    and kept, or the name of a known model. Each setting is a flag, or the environment variable in brackets, or a
    key of the TOML file (as the flag, with underscores); the first of these counts.
    """
    run(read_settings(model, config, flags))


def run(settings: Settings) -> None:
    """Serve until told to stop.

    Raises:
        ClickException: the server cannot be started.
    """
    configure_logging(settings.log_level)
    try:
        listener = bind(settings.host, settings.port)
    except AddressError as error:
        raise click.ClickException(str(error)) from None
    with closing(listener):
        url = base_url(listener)
        assembly = prepare(settings)
        card = assembly.model.card

        def announce(status: EngineStatus) -> None:
            if status.state is EngineState.READY:
                click.echo(ready_banner(url, card.name, assembly.model.engine.info))
            else:
                # Why has been logged. Whoever watches the server asks /health, so it stays.
                log.error("the server stays up without %s; /health says why, Ctrl-C stops it", card.name)

        log.info("loading %s; the server answers on %s meanwhile", card.name, url)
        try:
            Server(assembly, settings, announce).run(sockets=[listener])
        except KeyboardInterrupt:
            log.info("stopped")
