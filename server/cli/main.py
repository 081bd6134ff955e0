"""``glmserve``: the command group."""

import errno
import shutil
import signal
import sys
from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any

import click

from glmserve.cli.texts.chinese import COMMANDS, formatter, localized
from glmserve.cli.texts.short_help import with_short_help
from glmserve.config.chinese import speaks_chinese

_COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "serve": "glmserve.cli.serve:serve",
        "cluster": "glmserve.cli.cluster:cluster",
        "convert": "glmserve.convert.cli:convert",
        "pull": "glmserve.cli.pull:pull",
        "list": "glmserve.cli.list:list_models",
        "chat": "glmserve.cli.chat.command:chat",
        "task": "glmserve.cli.tasks.command:task",
        "batch": "glmserve.cli.batch:batch",
        "bench": "glmserve.cli.bench.command:bench",
        "inspect": "glmserve.cli.inspect.command:inspect",
        "doctor": "glmserve.cli.doctor:doctor",
        "cache": "glmserve.cli.cache:cache",
        "build-llama": "glmserve.cli.build_llama:build_llama",
        "completion": "glmserve.cli.options:completion",
    }
)

_SUMMARIES: Mapping[str, str] = MappingProxyType(
    {
        "serve": "Serve models over HTTP.",
        "cluster": "Serve models on a Ray cluster.",
        "convert": "Convert a checkpoint folder to a GGUF file.",
        "pull": "Download a model and convert it for serve.",
        "list": "List the models on this machine.",
        "chat": "Chat with a running server, or with a model.",
        "task": "Run a task, a stored prompt, on a text.",
        "batch": "Have a server answer a file of requests.",
        "bench": "Measure a running server.",
        "inspect": "Tell what a model file is and whether it is right.",
        "doctor": "Check this machine, the build and the models.",
        "cache": "Show or clear the prompts saved on this machine.",
        "build-llama": "Compile llama.cpp for this machine.",
        "completion": "Print the completion script of a shell.",
    }
)

_MAX_COLUMNS, _MIN_COLUMNS = 110, 30
"""Of help."""
_INTERRUPTED = 128 + signal.SIGINT


class LazyGroup(click.Group):
    """A group that imports a command when it is called, so a failing import affects only its own command."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names, in the order of first use."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command called ``cmd_name``."""
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return with_short_help(localized(command))

    def get_help(self, ctx: click.Context) -> str:
        """Return the help in the user's language."""
        page = formatter(ctx)
        localized(self).format_help(ctx, page)
        return page.getvalue().rstrip("\n")

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands, without importing them."""
        with formatter.section("Commands"):
            summaries = {name: chinese for name, (chinese, _) in COMMANDS.items()} if speaks_chinese() else _SUMMARIES
            formatter.write_dl([(name, summaries[name]) for name in _COMMANDS])

    def main(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - click's signature
        """Run the program; a full disk is an error in one line, as of its output."""
        # Click's own width is 50 at least, which narrower windows cut off.
        columns = min(shutil.get_terminal_size().columns, _MAX_COLUMNS) - 2
        try:
            return super().main(*args, **{"terminal_width": max(columns, _MIN_COLUMNS), **kwargs})
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            click.echo(f"Error: {error.filename or 'the output'}: {error.strerror}", err=True)
            sys.exit(1)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; after Ctrl-C the exit status is 130, as shells expect."""
        try:
            return self._invoke(ctx)
        except KeyboardInterrupt:
            click.echo(err=True)
            ctx.exit(_INTERRUPTED)

    def _invoke(self, ctx: click.Context) -> object:
        if not speaks_chinese():
            return super().invoke(ctx)
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            from glmserve.cli.texts.chinese_errors import show_in_chinese  # noqa: PLC0415 - only where there is one

            show_in_chinese(error)
            ctx.exit(error.exit_code)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": _MAX_COLUMNS})
@click.version_option(package_name="glmserve", prog_name="glmserve")
def main() -> None:
    """Serve ChatGLM2-6B and its relatives to clients of OpenAI and /chatglm."""


if __name__ == "__main__":
    main()
