"""Options of the commands, made from the fields of ``Settings``; completion in a shell; the output of tables."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import click
from click.shell_completion import CompletionItem, get_completion_class
from pydantic.fields import FieldInfo
from rich.console import Console

from glmserve.config.loader import SettingsError, flag_name, key_variable, load_settings, variable_name
from glmserve.config.schema import FLAGS, OF_CLUSTER, OF_ONE_SERVER, OF_PULL, Settings
from glmserve.convert.type_names import usual_name
from glmserve.models.catalog import CATALOG

_Command = TypeVar("_Command", bound=Callable[..., None])
_METAVARS: Mapping[object, str] = MappingProxyType({int: "INTEGER", float: "NUMBER", str: "TEXT"})
_MANY: Mapping[str, str] = MappingProxyType(
    {
        "lora": "NAME=FILE",
        "prefix": "NAME=FILE",
        "cors_origin": "ORIGIN",
        "allowed_host": "HOST",
        "api_key": "KEY",
        "pin": "FILE",
        "pin_task": "TASK",
    }
)


class UsageProblem(click.ClickException):
    """The command was called wrongly: one line, and the exit status of a usage error."""

    exit_code = 2


DEFAULT_URL = "http://127.0.0.1:8000"
"""Default address of `serve`."""


def client_key(given: Sequence[str]) -> str:
    """Return the API key for a running server: the first one ``given``, or of GLMSERVE_API_KEY.

    Raises:
        UsageProblem: the key has characters that no key may have.
    """
    first = next(iter(given), "") or key_variable().split(",")[0].strip()
    if not (first.isascii() and first.isprintable()):
        raise UsageProblem("--api-key: a key may have printable ASCII characters only")
    return first.rpartition(":")[2]


def settings_options(command: _Command) -> _Command:
    """Give ``command`` a flag for each setting of a server, and ``--config``."""
    return _with_flags(command, without=("model", *OF_PULL, *OF_CLUSTER))  # the first is the argument MODEL


def cluster_options(command: _Command) -> _Command:
    """Give ``command`` a flag for each setting of a cluster, and ``--config``."""
    return _with_flags(command, without=("model", *OF_PULL, *OF_ONE_SERVER))


def _with_flags(command: _Command, without: Collection[str]) -> _Command:
    for name in reversed(FLAGS):
        if name not in without:
            command = _option(name, Settings.model_fields[name])(command)
    return _config_option(command)


def cache_options(command: _Command) -> _Command:
    """Give ``command``, which loads no model, ``--cache-dir`` and ``--config``."""
    return _option("cache_dir", Settings.model_fields["cache_dir"])(_config_option(command))


def _config_option(command: _Command) -> _Command:
    return click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        default=None,
        help="TOML file with settings.  [GLMSERVE_CONFIG; default: ./glmserve.toml if it exists]",
    )(command)


def read_settings(models: tuple[str, ...], config: Path | None, flags: Mapping[str, object]) -> Settings:
    """Return the settings of a command, from its arguments MODEL, its flags and the other sources.

    Raises:
        UsageProblem: a setting is unknown or cannot have its value.
    """
    given = _given(flags)
    if models:
        given["model"] = models
    try:
        return load_settings(given, config_file=config)
    except SettingsError as error:
        raise UsageProblem(str(error)) from None


def reject_settings(flags: Mapping[str, object], needed: str) -> None:
    """Reject settings given for a running server. Raises UsageProblem, which says that they need ``needed``."""
    if given := next(iter(_given(flags)), None):
        raise UsageProblem(f"{flag_name(given)} needs {needed}; a running server has its own settings")


def _given(flags: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in flags.items() if value is not None and value != ()}


class _Choice(click.Choice):  # type: ignore[type-arg] # generic since click 8.2 only
    """Values of a setting, upper or lower case; for types of weights, other names of them, too."""

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the value as the setting has it. Raises BadParameter."""
        return str(super().convert(usual_name(str(value)), param, ctx))


def _option(name: str, field: FieldInfo) -> Callable[[_Command], _Command]:
    # Values stay text here: they are checked in one place, whichever source they come from.
    kind = field.annotation
    flag = flag_name(name)
    help_text = f"{field.description}  [{variable_name(name)}{_default(field)}]"
    if isinstance(kind, type) and issubclass(kind, Enum):
        choices = _Choice([member.value for member in kind])
        return click.option(flag, name, type=choices, default=None, help=help_text)
    if kind is bool:
        return click.option(f"{flag}/--no-{flag[2:]}", name, default=None, help=help_text)
    many = isinstance(field.default, tuple)
    metavar = _MANY.get(name, "NAME") if many else _METAVARS.get(kind, "PATH")
    return click.option(flag, name, metavar=metavar, default=None, multiple=many, help=help_text)


def _default(field: FieldInfo) -> str:
    value = field.default.value if isinstance(field.default, Enum) else field.default
    if field.is_required() or value in (None, "", ()):
        return ""
    if isinstance(value, bool):
        value = "yes" if value else "no"
    return f"; default: {','.join(value) if isinstance(value, tuple) else value}"


PROGRAM = "glmserve"
_VARIABLE = "_GLMSERVE_COMPLETE"
"""Environment variable through which the shell requests completion, as click names it."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the shell code for completion of commands, flags and model names.

    \b
    ~/.bashrc:
      eval "$(glmserve completion bash)"
    ~/.zshrc, after compinit:
      eval "$(glmserve completion zsh)"
    ~/.config/fish/config.fish:
      glmserve completion fish | source
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
    yield next(entry.name for entry in CATALOG if not entry.repository)
    try:
        settings = read_settings((), ctx.params.get("config"), {"cache_dir": ctx.params.get("cache_dir")})
    except UsageProblem:
        return  # an error message would disturb the command line
    yield from (model.name for model in settings.models if model.name)
    for file in settings.cache_dir.glob("*.gguf"):
        yield file.stem.rpartition(".")[0] or file.stem


_PLAIN_WIDTH = 1000
"""Columns where the output is no terminal: each row stays on one line."""


def printable(text: str) -> str:
    """Return ``text`` without control characters, which may come from a file and would act in a terminal."""
    return "".join(c if c.isprintable() or c == "\u3000" else c.encode("unicode_escape").decode() for c in text)


def output() -> Console:
    """Return the standard output; in colour in a terminal alone, and there unless NO_COLOR is set."""
    screen = Console()
    return screen if screen.is_terminal else Console(width=_PLAIN_WIDTH)
