"""``glmserve cache``: the prompts that servers have saved in the cache folder."""

from pathlib import Path

import click

from glmserve.bootstrap.engine_config import PREFIX_FOLDER, PROMPT_FOLDER
from glmserve.cli.machine import in_units
from glmserve.cli.options import cache_options, read_settings
from glmserve.cli.texts.chinese import say
from glmserve.engine.kv_cache.prompt_files import SUFFIX, clear
from glmserve.engine.kv_cache.state_store import STATE_SUFFIX


@click.command()
@click.argument("action", type=click.Choice(["show", "clear"]), default="show")
@cache_options
def cache(*, action: str, cache_dir: str | None, config: Path | None) -> None:
    """Show how much is saved of prompts and answers, or clear it.

    Clearing removes the saved prompts and the saved states of pinned prefixes. Converted models stay. A running server
    keeps what it has in memory until it is stopped.
    """
    folder = read_settings((), config, {"cache_dir": cache_dir}).cache_dir
    places = ((folder / PROMPT_FOLDER, SUFFIX), (folder / PREFIX_FOLDER, STATE_SUFFIX))
    for place, suffix in places:
        sizes = [file.stat().st_size for file in place.glob(f"*{suffix}")]
        if action == "show":
            click.echo(f"{place}: {len(sizes)}, {in_units(sum(sizes))}")
    if action == "clear":
        try:
            removed = sum(clear(place, suffix) for place, suffix in places)
        except OSError as error:
            raise click.ClickException(f"{error.filename}: {error.strerror}") from None
        click.echo(say("removed {count} saved prompts", count=removed))
