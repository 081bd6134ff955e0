"""What can be set, where it is read from, and what it is checked against.

A setting comes from the first of these that has it: a command-line flag, an environment variable ``GLMSERVE_…``,
the TOML file, the default below. The fields of ``Settings`` are the one list: flags, variables, keys of the file
and ``docs/settings.md`` are made from them. This is the only module that reads the environment.
"""

import difflib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from server.engine.config import Device

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PREFIX = "GLMSERVE_"
CONFIG_VARIABLE = "GLMSERVE_CONFIG"
DEFAULT_FILE = Path("glmserve.toml")


class SettingsError(Exception):
    """A setting is unknown or has a value that it cannot have; the message names where it was read."""


class LogLevel(str, Enum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Quant(str, Enum):
    """Type of the weights where a checkpoint folder is served; AUTO is q8_0 for the embedded model, else q4_k_m."""

    AUTO = "auto"
    F16 = "f16"
    Q8_0 = "q8_0"
    Q6_K = "q6_k"
    Q5_K_M = "q5_k_m"
    Q4_K_M = "q4_k_m"
    Q4_0 = "q4_0"


def _split(value: object) -> object:
    return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_split)]


def default_cache_dir(environ: Mapping[str, str]) -> Path:
    """Return ``glmserve`` in the user's cache folder, as the XDG base directories say.

    Raises:
        SettingsError: the user has no home, as it may be in a container.
    """
    base = Path(environ.get("XDG_CACHE_HOME", ""))
    try:
        return (base if base.is_absolute() else Path.home() / ".cache") / "glmserve"
    except RuntimeError:
        message = "this user has no home folder for converted models; name one with --cache-dir"
        raise SettingsError(message) from None


class Settings(BaseModel):
    """Every setting, checked. A 0 of the engine's figures means: decide from the model and the machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field("", description="What to serve: as the argument MODEL.")
    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on; 0.0.0.0 is every one.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    model_name: str = Field("", description="Name of the model for callers; empty takes the model's own.")
    alias: Names = Field((), description="Further name for the model, such as gpt-3.5-turbo; repeatable.")
    prompt_format: str = Field("", description="How messages become a prompt; empty goes by the model file.")
    quant: Quant = Field(Quant.AUTO, description="Type of the weights when a checkpoint folder is served.")
    cache_dir: Path = Field(description="Where converted models lie; unless set, glmserve in the user's cache.")
    context: int = Field(0, ge=0, description="Tokens of prompt and answer together; 0 is what the model has.")
    parallel: int = Field(8, ge=1, le=256, description="Requests that are answered at once.")
    cache_tokens: int = Field(
        0, ge=0, description="Tokens kept of running requests and known prefixes; 0 goes by context and memory."
    )
    max_waiting: int = Field(64, ge=0, description="Requests that may wait; one more is refused with 429.")
    threads: int = Field(0, ge=0, description="Threads that generate; 0 is one for each usable core.")
    threads_batch: int = Field(0, ge=0, description="Threads that read prompts; 0 is as many as threads.")
    batch_size: int = Field(512, ge=1, le=65536, description="Most tokens that one step computes.")
    step_seconds: float = Field(
        0.25, gt=0, le=60, description="Time a step should stay under while somebody is streaming."
    )
    device: Device = Field(Device.AUTO, description="Where the model runs; auto is CUDA where there is one.")
    gpu_layers: int = Field(-1, ge=-1, description="Layers on the GPU; -1 is as many as fit.")
    load_timeout: float = Field(600.0, gt=0, description="Seconds that loading the model may take.")
    restart_wait: float = Field(15.0, ge=0, description="Seconds a request waits for a restarting engine.")
    max_restarts: int = Field(5, ge=0, description="Restarts in a row before the engine counts as failed.")
    default_max_tokens: int = Field(2048, ge=1, description="Tokens of an answer where a request names none.")
    max_body_mb: float = Field(8.0, gt=0, description="Largest request body in megabytes.")
    shutdown_seconds: int = Field(10, ge=0, description="Time that running answers get when the server stops.")
    log_level: LogLevel = Field(LogLevel.INFO, description="How much is logged.")
    access_log: bool = Field(False, description="Log a line for each HTTP request.")


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
    if "cache_dir" not in values:
        values["cache_dir"] = default_cache_dir(environ)
    try:
        return Settings.model_validate(values)
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
    # An empty variable counts as unset: that is what a compose file makes of a variable nobody has set.
    values = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environ.items()
        if name.startswith(PREFIX) and name != CONFIG_VARIABLE and value
    }
    return _Layer(values, variable_name)


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
        values = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise SettingsError(f"{path}: not a TOML file ({error})") from None
    return _Layer(values, lambda field: f"{path}: {field}")


def _explain(error: ValidationError, layers: tuple[_Layer, ...]) -> str:
    lines = []
    for problem in error.errors(include_url=False):
        field = str(problem["loc"][0])
        layer = next(layer for layer in layers if field in layer.values)
        if problem["type"] == "extra_forbidden":
            lines.append(f"{layer.spell(field)} is not a setting{_suggest(field, layer)}")
        else:
            lines.append(f"{layer.spell(field)}: {problem['msg']}, not {layer.values[field]!r}")
    return "\n".join(lines)


def _suggest(field: str, layer: _Layer) -> str:
    close = difflib.get_close_matches(field, Settings.model_fields, n=1)
    return f"; did you mean {layer.spell(close[0])}?" if close else ""
