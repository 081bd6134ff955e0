"""Where settings are read from: flags, environment and TOML file, merged and checked.

A setting comes from the first of these that has it: a command-line flag, an environment variable ``GLMSERVE_…``,
the TOML file, its default. What a ``[[models]]`` table says of its model comes before all of them, as it is about
that model alone. This is the only module that reads the environment.
"""

import difflib
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from glmserve.config.schema import FLAGS, OF_ONE_MODEL, SHARED, AdapterSettings, ModelSettings, Settings
from glmserve.config.values import MUST_SAY_SOMETHING, empty_ones

Table = Mapping[str, object]


class TableError(ValueError):
    """A setting cannot be distributed to the models; ``field`` is its name."""

    def __init__(self, field: str, message: str) -> None:
        """``message`` continues the sentence that begins with the setting's name."""
        super().__init__(message)
        self.field = field


def model_tables(values: Mapping[str, object]) -> object:
    """Return the table of each model that is served.

    Arguments MODEL choose: each is the name of a table or what that serves, or else a model without one. With none
    of them all tables are served, and with no table the embedded model.

    Raises:
        TableError: a setting of one model is given for several.
    """
    tables = values.get("models", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        return tables  # the check that follows says what is wrong with it
    names = _names(values.get("model"))
    chosen: list[Table] = [_table_of(model, tables) for model in names] or tables or [{}]
    shared = {key: value for key, value in values.items() if key in SHARED}
    return [{**shared, **table} for table in _with_own(values, chosen)]


def _names(value: object) -> Sequence[str]:
    if isinstance(value, str):
        return [name for name in map(str.strip, value.split(",")) if name]
    return [str(name) for name in value] if isinstance(value, list | tuple) else []


def _table_of(model: str, tables: Sequence[Table]) -> Table:
    named = (table for table in tables if model in (table.get("name"), table.get("model"), table.get("upstream_model")))
    return next(named, {"model": model})


def _with_own(values: Mapping[str, object], tables: Sequence[Table]) -> Sequence[Table]:
    """Return the tables, the only one completed by the settings outside of it."""
    given = [key for key in OF_ONE_MODEL if values.get(key)]
    if not given:
        return tables
    if len(tables) > 1:
        raise TableError(
            given[0],
            f"this setting is for a single model, and {len(tables)} are served; set it in their [[models]] tables",
        )
    own = {key.removeprefix("model_"): values[key] for key in ("model_name", "alias", "pin") if key in given}
    adapters = _adapters(_names(values.get("lora")), _names(values.get("prefix")))
    table = {**own, **tables[0]}
    declared = table.get("variants", [])
    if adapters:
        table["variants"] = [*declared, *adapters] if isinstance(declared, list) else declared
    return [table]


def _adapters(lora: Sequence[str], prefix: Sequence[str]) -> list[dict[str, object]]:
    """Return an adapter for each name in the ``NAME=FILE`` of both; a file alone is named after itself."""
    adapters: dict[str, dict[str, object]] = {}
    for kind, pairs in (("lora", lora), ("prefix", prefix)):
        for pair in pairs:
            name, equals, file = pair.partition("=")
            if not equals:
                name, file = Path(pair).stem, pair
            adapter = adapters.setdefault(name, {"name": name})
            if kind in adapter or not (name and file):
                raise TableError(kind, f"must be NAME=FILE with a name of its own, not {pair!r}")
            adapter[kind] = file
    return list(adapters.values())


if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PREFIX = "GLMSERVE_"
CONFIG_VARIABLE = "GLMSERVE_CONFIG"
_PROTOCOLS = "TCP|UDP|SCTP"
_OF_A_SERVICE = re.compile(rf"\w+_SERVICE_(HOST|PORT(_\w+)?)|\w+_PORT_\d+_({_PROTOCOLS})(_(PROTO|PORT|ADDR))?")
_ADDRESS = re.compile(rf"({_PROTOCOLS})://", re.IGNORECASE)
DEFAULT_FILE = Path("glmserve.toml")


class SettingsError(Exception):
    """A setting is unknown or has a value that it cannot have; the message names where it was read."""


def default_cache_dir(environ: Mapping[str, str]) -> Path:
    """Return ``glmserve`` in the user's cache folder, as the XDG base directories say.

    Raises:
        SettingsError: the user has no home, as it may be in a container.
    """
    base = Path(environ.get("XDG_CACHE_HOME", ""))
    try:
        return (base if base.is_absolute() else Path.home() / ".cache") / "glmserve"
    except RuntimeError:
        message = "this user has no home folder for converted models; set a folder with --cache-dir"
        raise SettingsError(message) from None


def chat_history(environ: Mapping[str, str] | None = None) -> Path | None:
    """Return the history file of `chat`, in the user's state folder; None for a user without a home."""
    environ = os.environ if environ is None else environ
    base = Path(environ.get("XDG_STATE_HOME", ""))
    try:
        return (base if base.is_absolute() else Path.home() / ".local" / "state") / "glmserve" / "chat_history"
    except RuntimeError:
        return None


def key_variable(environ: Mapping[str, str] | None = None) -> str:
    """Return the API keys of the environment, as they stand there."""
    return (os.environ if environ is None else environ).get(PREFIX + "API_KEY", "")


def upstream_key(model: ModelSettings, environ: Mapping[str, str] | None = None) -> str:
    """Return the API key of a model's upstream; empty where it has none.

    Raises:
        SettingsError: its file or variable has none, or it has characters that no header may have.
    """
    where = f"the key of {model.public_name}"
    if model.upstream_key_file is not None:
        where = str(model.upstream_key_file)
        try:
            key = model.upstream_key_file.expanduser().read_text("utf-8-sig").partition("\n")[0].strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{where}: cannot be read ({getattr(error, 'strerror', '') or 'no text'})") from None
    elif model.upstream_key_env:
        where = f"the variable {model.upstream_key_env}"
        key = (os.environ if environ is None else environ).get(model.upstream_key_env, "").strip()
    else:
        return ""
    if not key or not (key.isascii() and key.isprintable() and " " not in key):
        raise SettingsError(f"{where}: must have the API key of the upstream of {model.public_name}, in ASCII")
    return key


def load_settings(
    flags: Mapping[str, object],
    environ: Mapping[str, str] | None = None,
    config_file: Path | None = None,
) -> Settings:
    """Merge the four sources and check the outcome.

    Args:
        flags: what the command line says, by field name; only what was given.
        environ: the environment; by default that of this process.
        config_file: the TOML file; by default ``GLMSERVE_CONFIG``, or ./glmserve.toml where there is one.

    Raises:
        SettingsError: one line for each thing that is wrong.
    """
    environ = os.environ if environ is None else environ
    layers = (_flag_layer(flags), _environment_layer(environ), _file_layer(_find_file(config_file, environ)))
    values = {key: value for layer in reversed(layers) for key, value in layer.values.items()}
    _check_given(values, layers)
    if "cache_dir" not in values:
        values["cache_dir"] = default_cache_dir(environ)
    try:
        return Settings.model_validate({**values, "models": model_tables(values)})
    except TableError as error:
        raise SettingsError(f"{_layer_of(error.field, layers).spell(error.field)}: {error}") from None
    except ValidationError as error:
        raise SettingsError(_explain(error, layers)) from None


@dataclass(frozen=True, slots=True)
class _Layer:
    """One source of settings."""

    values: Mapping[str, object]
    spell: Callable[[str], str]
    """How a field is written in this source."""


def flag_name(field: str) -> str:
    """Return how the command line spells a field."""
    return "--" + field.replace("_", "-")


def variable_name(field: str) -> str:
    """Return how the environment spells a field."""
    return PREFIX + field.upper()


def _flag_layer(flags: Mapping[str, object]) -> _Layer:
    return _Layer(flags, flag_name)


def _environment_layer(environ: Mapping[str, str]) -> _Layer:
    given = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environ.items()
        if name.startswith(PREFIX) and name != CONFIG_VARIABLE and not _is_of_a_service(name, value)
    }
    # An empty variable counts as unset: that is what a compose file makes of a variable nobody has set. Not where
    # that would let in everybody.
    return _Layer({name: value for name, value in given.items() if value or name in MUST_SAY_SOMETHING}, variable_name)


def _is_of_a_service(name: str, value: str) -> bool:
    """Return whether Kubernetes wrote a variable, which tells of a service with a name that begins with ours."""
    return bool(_OF_A_SERVICE.fullmatch(name)) or (name.endswith("_PORT") and bool(_ADDRESS.match(value)))


def _check_given(values: Mapping[str, object], layers: "tuple[_Layer, ...]") -> None:
    """Raise SettingsError if a setting of access control is empty."""
    lines = [
        f"{_layer_of(name, layers).spell(name)}: it is set, but empty; give it a value, or leave it out"
        for name in empty_ones(values)
    ]
    if lines:
        raise SettingsError("\n".join(lines))


def _find_file(config_file: Path | None, environ: Mapping[str, str]) -> Path | None:
    if config_file is not None:
        return config_file
    if named := environ.get(CONFIG_VARIABLE):
        return Path(named)
    return DEFAULT_FILE if DEFAULT_FILE.is_file() else None


def _file_layer(path: Path | None) -> _Layer:
    if path is None:
        return _Layer({}, str)
    try:
        values = tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise SettingsError(f"{path}: not a TOML file ({error})") from None
    return _Layer(values, lambda field: f"{path}: {field}")


def _layer_of(field: str, layers: tuple[_Layer, ...]) -> _Layer:
    return next(layer for layer in layers if field in layer.values)


def _explain(error: ValidationError, layers: tuple[_Layer, ...]) -> str:
    problems = error.errors(include_url=False)
    lines = [_explain_one(p, layers) for p in problems if p["loc"][0] != "models"]
    # A bad value that holds for all models shows again in each of them.
    return "\n".join(dict.fromkeys(lines or [_explain_table(p, layers) for p in problems]))


def _explain_one(problem: ErrorDetails, layers: tuple[_Layer, ...]) -> str:
    field = str(problem["loc"][0])
    layer = _layer_of(field, layers)
    if problem["type"] == "extra_forbidden":
        return f"{layer.spell(field)} is not a setting{_suggest(field, FLAGS, layer.spell)}"
    return f"{layer.spell(field)}: {problem['msg']}, not {layer.values[field]!r}"


def _explain_table(problem: ErrorDetails, layers: tuple[_Layer, ...]) -> str:
    """Return the line for a key of a table, or for one of the adapters that ``--lora`` and ``--prefix`` make."""
    *table, key = problem["loc"]

    def spell(name: int | str) -> str:
        parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in (*table, name)]
        return layers[-1].spell("".join(parts).removeprefix("."))

    if problem["type"] != "extra_forbidden":
        return f"{spell(key)}: {problem['msg']}, not {problem['input']!r}"
    kind: type[BaseModel] = AdapterSettings if "variants" in table else ModelSettings
    what = "adapter" if "variants" in table else "model"
    return f"{spell(key)} is not a setting of a {what}{_suggest(str(key), kind.model_fields, spell)}"


def _suggest(field: str, known: Iterable[str], spell: Callable[[str], str]) -> str:
    close = difflib.get_close_matches(field, list(known), n=1)
    return f"; did you mean {spell(close[0])}?" if close else ""
