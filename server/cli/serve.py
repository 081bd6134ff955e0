"""``glmserve serve``: load models and serve the API."""

from pathlib import Path

import click

from glmserve.cli.options import complete_model, read_settings, settings_options


@click.command()
@click.argument("model", nargs=-1, shell_complete=complete_model)
@settings_options
def serve(model: tuple[str, ...], config: Path | None, **flags: object) -> None:
    """Serve each MODEL over HTTP: a .gguf file, a checkpoint folder, a known name. Without MODEL: the embedded model.

    The first MODEL answers requests that name none. A checkpoint folder is converted once and cached. A name may also
    be that of a [[models]] table of the TOML file.

    Each setting is a flag, the environment variable in brackets, or a key of the TOML file (the flag with
    underscores); the first of these that is set applies.
    """
    from glmserve.cli.run_server import run  # noqa: PLC0415 - help and completion do without the server

    run(read_settings(model, config, flags))
