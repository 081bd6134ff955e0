"""The settings: names, types, bounds and defaults.

The fields here are the one list: flags, variables, keys of the TOML file and ``docs/settings.md`` are made from them.
``settings_layers`` says where they are read from.
"""

from enum import Enum
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from glmserve.config.access import check_hosts, check_origins
from glmserve.engine.config import Device, KvType


class LogLevel(str, Enum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(str, Enum):
    """How a line of the log is written."""

    TEXT = "text"
    JSON = "json"


class Quant(str, Enum):
    """Type of the weights where a checkpoint folder is served; AUTO is q8_0 for the embedded model, else q4_k_m."""

    AUTO = "auto"
    F16 = "f16"
    Q8_0 = "q8_0"
    Q6_K = "q6_k"
    Q5_K_M = "q5_k_m"
    Q4_K_M = "q4_k_m"
    Q4_0 = "q4_0"


class Load(str, Enum):
    """When a model is loaded."""

    START = "start"
    FIRST_USE = "first_use"


def _split(value: object) -> object:
    return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_split)]


_PINNED = "What stays cached of prompts to"


class _Checked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class VariantSettings(_Checked):
    """One ``[[models.variants]]`` table: a tuned variant, served under a name of its own from the same weights."""

    name: str = Field(min_length=1, description="Name of the variant for callers.")
    lora: Path | None = Field(None, description="GGUF of a LoRA adapter for this model.")
    prefix: Path | None = Field(None, description="GGUF of a P-Tuning v2 prefix for this model.")
    pin: Names = Field((), description=f"{_PINNED} the variant: files, as --pin.")

    @model_validator(mode="after")
    def _tuned(self) -> "VariantSettings":
        if self.lora is None and self.prefix is None:
            raise ValueError("a variant needs lora or prefix")
        return self


class ModelDefaults(_Checked):
    """Settings of a model, shared or in its ``[[models]]`` table. A 0 means: decide from model and machine."""

    prompt_format: str = Field("", description="How messages become a prompt; empty goes by the model file.")
    quant: Quant = Field(Quant.AUTO, description="Type of the weights when a checkpoint folder is served.")
    context: int = Field(0, ge=0, description="Tokens of prompt and answer together; 0 is what the model has.")
    parallel: int = Field(8, ge=1, le=256, description="Requests that are answered at once.")
    cache_tokens: int = Field(
        0, ge=0, description="Tokens kept of running requests and known prefixes; 0 goes by context and memory."
    )
    max_waiting: int = Field(
        64, ge=0, description="Requests that may wait; one more is refused (429), unless its caller has few of them."
    )
    kv_type: KvType = Field(
        KvType.F16, description="Type of the KV cache; q8_0 and q4_0 take half and a quarter of the memory."
    )
    threads: int = Field(0, ge=0, description="Threads that generate; 0 is what is fastest on the usable cores.")
    threads_batch: int = Field(0, ge=0, description="Threads that read prompts; 0 is one for each usable core.")
    batch_size: int = Field(512, ge=1, le=65536, description="Most tokens that one step computes.")
    step_seconds: float = Field(
        0.25,
        gt=0,
        le=60,
        description="Time of a step while somebody is streaming; of long prompts alone, on a CPU, up to four times it.",
    )
    speculation: bool = Field(
        True, description="Guess tokens that repeat the prompt and compute the guesses along, where that pays."
    )
    device: Device = Field(Device.AUTO, description="Where the model runs; auto is CUDA where there is one.")
    gpu_layers: int = Field(-1, ge=-1, description="Layers on the GPU; -1 is as many as fit.")
    load: Load = Field(Load.START, description="Load the model with the server, or by the first request for it.")
    idle_seconds: float = Field(
        0.0, ge=0, description="Unload the model after so long without a request, until the next one; 0 never does."
    )
    load_timeout: float = Field(600.0, gt=0, description="Seconds that loading the model may take.")
    step_timeout: float = Field(
        300.0, ge=0, description="Seconds a step may take before the engine counts as hung and is restarted; 0: any."
    )
    restart_wait: float = Field(15.0, ge=0, description="Seconds a request waits for a restarting engine.")
    resume: bool = Field(
        True, description="Continue answers that were interrupted by the death of an engine process in the next one."
    )
    max_restarts: int = Field(5, ge=0, description="Restarts in a row before the engine counts as failed.")
    max_output_tokens: int = Field(
        0, ge=0, description="Most tokens of an answer, whatever is asked for; 0 is what the context leaves."
    )
    default_max_tokens: int = Field(2048, ge=1, description="Tokens of an answer where a request names none.")


class ModelSettings(ModelDefaults):
    """One ``[[models]]`` table, completed by the shared settings."""

    model: str = Field("", description="What to serve: as an argument MODEL.")
    name: str = Field("", description="Name of the model for callers; empty takes the model's own.")
    alias: Names = Field((), description="Further names for the model, such as gpt-3.5-turbo.")
    pin: Names = Field((), description=f"{_PINNED} the model: files, as --pin.")
    variants: tuple[VariantSettings, ...] = Field((), description="Tuned variants: tables [[models.variants]].")


class Settings(ModelDefaults):
    """Every setting, checked."""

    model: Names = Field((), description="What to serve: as the arguments MODEL.")
    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on; 0.0.0.0 is every one.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    model_name: str = Field("", description="Name of the one model for callers; empty takes the model's own.")
    alias: Names = Field((), description="Further name for the one model, such as gpt-3.5-turbo; repeatable.")
    lora: Names = Field(
        (), description="NAME=FILE: serve the one model with this LoRA adapter as NAME, too; repeatable."
    )
    prefix: Names = Field(
        (), description="NAME=FILE: serve the one model with this P-Tuning v2 prefix as NAME, too; repeatable."
    )
    pin: Names = Field(
        (), description="FILE with what many prompts of the one model begin with, which stays cached; repeatable."
    )
    pinned_disk_mb: float = Field(
        2048.0, ge=0, description="Most megabytes in the cache folder for the state of what is pinned; 0 keeps none."
    )
    default_model: str = Field(
        "", description="Name of the model for requests that name none; empty is the first that answers."
    )
    cache_dir: Path = Field(description="Where converted models lie; unless set, glmserve in the user's cache.")
    api_key: Names = Field(
        (), repr=False, description="Key that callers need, as NAME:SECRET or SECRET; repeatable. Better in a file."
    )
    api_key_file: Path | None = Field(None, description="File with a key in each line.")
    key_requests: int = Field(0, ge=0, description="Requests that a key may make in a minute; 0 is any number.")
    key_tokens: int = Field(
        0, ge=0, description="Tokens of prompts and answers that a key may have in a minute; 0 is any number."
    )
    key_concurrent: int = Field(0, ge=0, description="Requests of a key that may run at once; 0 is any number.")
    cors_origin: Annotated[Names, AfterValidator(check_origins)] = Field(
        ("local",),
        description="Origin whose pages may call the API from a browser; local is every page of this machine, * is "
        "all, none is none; repeatable.",
    )
    allowed_host: Annotated[Names, AfterValidator(check_hosts)] = Field(
        (),
        description="Name by which a server without keys may be called, as by a reverse proxy, if it listens on this "
        "machine alone; its pages may call, too; * is any; repeatable.",
    )
    share_prefixes: bool = Field(
        False,
        description="Let callers with different keys share all cached beginnings of prompts; cached_tokens then tells "
        "one caller what another has asked.",
    )
    prompts: Path | None = Field(None, description="Folder of tasks of your own, one TOML file for each.")
    builtin_tasks: bool = Field(True, description="Serve the tasks that come with the package, too.")
    pin_task: Names = Field(
        (),
        description="TASK or MODEL:TASK whose beginning is cached when the model loads, not from its first use on; "
        "repeatable.",
    )
    strict_fields: bool = Field(
        False,
        description="Refuse fields of requests that are not known (400), instead of ignoring and reporting them.",
    )
    page: bool = Field(True, description="Show browsers the chat page at /.")
    response_store_mb: float = Field(
        64.0, ge=0, description="Most megabytes of responses that are kept to be gone on from; 0 keeps none."
    )
    response_store_max: int = Field(1000, ge=0, description="Most responses that are kept to be gone on from.")
    request_timeout: float = Field(
        3600.0, ge=0, description="Seconds after which a request is ended, done or not; 0 is never."
    )
    stall_seconds: float = Field(
        60.0, ge=0, description="Seconds a caller may take nothing of its reply before it is dropped; 0 is any number."
    )
    max_connections: int = Field(
        4096, ge=1, description="Connections at once; for one more, one on which nothing is asked for is dropped."
    )
    max_body_mb: float = Field(8.0, gt=0, description="Largest request body in megabytes.")
    shutdown_seconds: int = Field(8, ge=0, description="Time that running answers get when the server stops.")
    drain_seconds: float = Field(
        0.0, ge=0, description="Time before that in which requests are still taken while /health says 503."
    )
    log_level: LogLevel = Field(LogLevel.INFO, description="How much is logged.")
    log_format: LogFormat = Field(LogFormat.TEXT, description="How: a line for people, or an object for programs.")
    log_prompts: bool = Field(
        False,
        description="Log prompts and answers, which hold what people wrote; they are never logged otherwise.",
    )
    access_log: bool = Field(False, description="Log a line for each HTTP request.")
    tracing: bool = Field(
        False, description="Send OpenTelemetry traces, as the OTEL_ variables say; needs the extra otel."
    )
    models: tuple[ModelSettings, ...] = Field(min_length=1, description="The models that are served.")

    @property
    def needs_key(self) -> bool:
        """Whether callers need an API key; a setting of keys that names none is an error."""
        return bool(self.api_key) or self.api_key_file is not None


SHARED = frozenset(ModelDefaults.model_fields)
"""Settings that hold for every model whose table does not say otherwise."""

OF_ONE_MODEL = ("model_name", "alias", "lora", "prefix", "pin")
"""Settings that only make sense where one model is served; with several they stand in their tables."""

FLAGS = tuple(name for name in Settings.model_fields if name != "models")
"""Settings with a flag, a variable and a key; ``models`` has tables alone."""
