"""``glmserve completion``: shell completion of commands, flags and models."""

from collections.abc import Iterator

import click
from click.shell_completion import CompletionItem, get_completion_class

from glmserve.models.catalog import CATALOG

PROGRAM = "glmserve"
_VARIABLE = "_GLMSERVE_COMPLETE"
"""Environment variable through which the shell requests completion, as click names it."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the shell code for completion of commands, flags and model names.

    \b
    bash:  eval "$(glmserve completion bash)"        in ~/.bashrc
    zsh:   eval "$(glmserve completion zsh)"         in ~/.zshrc, after compinit
    fish:  glmserve completion fish | source         in ~/.config/fish/config.fish
    """  # noqa: D301 - click reads the character
    kind = get_completion_class(shell)
    assert kind is not None, shell
    click.echo(kind(ctx.find_root().command, {}, PROGRAM, _VARIABLE).source())


def complete_model(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return completions of a MODEL: files, folders, and the names of local models."""
    names = sorted(set(_names_here(ctx)))
    return [CompletionItem(incomplete, type="file"), *_beginning(incomplete, names)]


def complete_known(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the known models that can be pulled."""
    return _beginning(incomplete, [entry.name for entry in CATALOG if entry.repository])


def _beginning(incomplete: str, names: list[str]) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _names_here(ctx: click.Context) -> Iterator[str]:
    from glmserve.cli.options import UsageProblem, read_settings  # noqa: PLC0415 - only when a name is wanted

    yield next(entry.name for entry in CATALOG if not entry.repository)
    try:
        settings = read_settings((), ctx.params.get("config"), {"cache_dir": ctx.params.get("cache_dir")})
    except UsageProblem:
        return  # an error message would disturb the command line
    yield from (model.name for model in settings.models if model.name)
    for file in settings.cache_dir.glob("*.gguf"):
        yield file.stem.rpartition(".")[0] or file.stem
