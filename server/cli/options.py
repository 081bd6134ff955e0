"""Command-line options made from the fields of ``Settings``, and settings read for a command."""

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import click
from pydantic.fields import FieldInfo

from glmserve.config.loader import SettingsError, flag_name, key_variable, load_settings, variable_name
from glmserve.config.schema import FLAGS, OF_PULL, Settings

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
    """Give ``command`` a flag for each setting, and ``--config``."""
    for name in reversed(FLAGS):
        if name not in ("model", *OF_PULL):  # the first is the argument MODEL
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
    given = {name: value for name, value in flags.items() if value is not None and value != ()}
    if models:
        given["model"] = models
    try:
        return load_settings(given, config_file=config)
    except SettingsError as error:
        raise UsageProblem(str(error)) from None


def _option(name: str, field: FieldInfo) -> Callable[[_Command], _Command]:
    # Values stay text here: they are checked in one place, whichever source they come from.
    kind = field.annotation
    flag = flag_name(name)
    help_text = f"{field.description}  [{variable_name(name)}{_default(field)}]"
    if isinstance(kind, type) and issubclass(kind, Enum):
        choices = click.Choice([member.value for member in kind])
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
