"""The settings: names, types, bounds and defaults.

The fields here are the one list: flags, variables, keys of the TOML file and ``docs/settings.md`` are made from them.
``glmserve.config.loader`` reads them.
"""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from glmserve.config.values import (
    Hub,
    Load,
    LogFormat,
    LogLevel,
    Quant,
    as_device,
    as_engines,
    as_list,
    as_quant,
    as_replicas,
    check_hosts,
    check_origins,
    check_upstream,
)
from glmserve.engine.config import Device, FlashAttention, KvType, Repack

Names = Annotated[tuple[str, ...], BeforeValidator(as_list)]


class _Checked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AdapterSettings(_Checked):
    """One ``[[models.variants]]`` table: an adapter, served under a separate name from the same weights."""

    name: str = Field(min_length=1, description="Model name of the adapter in requests.")
    lora: Path | None = Field(None, description="GGUF file of a LoRA adapter for this model.")
    prefix: Path | None = Field(None, description="GGUF file of a P-Tuning v2 prefix for this model.")
    pin: Names = Field((), description="Files with texts to pin in the adapter's prefix cache, as --pin.")

    @model_validator(mode="after")
    def _tuned(self) -> "AdapterSettings":
        if self.lora is None and self.prefix is None:
            raise ValueError("an adapter needs lora or prefix")
        return self


class ModelDefaults(_Checked):
    """Settings of a model, shared or in its ``[[models]]`` table. 0 means: chosen from the model and the machine."""

    prompt_format: str = Field(
        "", description="Format of chat prompts; empty takes the format that the model file names."
    )
    chat_template: str = Field(
        "",
        description="Chat template of prompts: a Jinja file, or the name of another template in the model file, such "
        "as tool_use; empty takes the model file's own.",
    )
    quant: Annotated[Quant, BeforeValidator(as_quant)] = Field(
        Quant.AUTO, description="Weight type to which a checkpoint folder is converted."
    )
    context: int = Field(
        0, ge=0, description="Context length in tokens, prompt and answer together; 0 uses the model's own."
    )
    parallel: int = Field(8, ge=1, le=256, description="Maximum number of requests computed at the same time.")
    cache_tokens: int = Field(
        0,
        ge=0,
        description="Size of the KV cache in tokens, for running requests and cached prefixes; 0 chooses it from "
        "context and memory.",
    )
    max_waiting: int = Field(
        64,
        ge=0,
        description="Maximum number of waiting requests. When full, a new request gets 429, unless its client is below "
        "its fair share of the queue.",
    )
    kv_type: KvType = Field(
        KvType.F16, description="Data type of the KV cache; q8_0 uses half and q4_0 a quarter of the memory."
    )
    threads: int = Field(0, ge=0, description="Threads for generation; 0 measures and takes the fastest number.")
    threads_batch: int = Field(0, ge=0, description="Threads for prefill; 0 uses one per usable core.")
    batch_size: int = Field(512, ge=1, le=65536, description="Maximum number of tokens per step.")
    step_seconds: float = Field(
        0.25,
        gt=0,
        le=60,
        description="Target duration of a step in seconds while answers are generated; up to three times as long where "
        "32 tokens fit into that, and up to six times for a step of long prompts alone on a CPU.",
    )
    speculation: bool = Field(
        True, description="Speculative decoding: draft tokens that repeat the prompt (n-gram) where that is faster."
    )
    repack: Repack = Field(
        Repack.AUTO, description="Repack weights for the CPU when they are loaded; auto measures which way is faster."
    )
    flash_attn: FlashAttention = Field(
        FlashAttention.AUTO, description="Flash attention; off takes more memory, and is faster on some ARM CPUs."
    )
    deterministic: bool = Field(
        False, description="Make all answers repeatable, as those with a seed are; slower, and on a CPU only."
    )
    device: Annotated[str, BeforeValidator(as_device)] = Field(
        Device.AUTO.value,
        description="Device that runs the model: auto, cpu, cuda, or CUDA devices such as cuda:0,cuda:1; auto uses "
        "CUDA if there is a CUDA device.",
    )
    engines: Annotated[str, BeforeValidator(as_engines)] = Field(
        "1",
        description="Number of engine processes of the model, each with a KV cache and a share of the cores or GPUs; "
        "per-gpu starts one for each GPU.",
    )
    gpu_layers: int = Field(-1, ge=-1, description="Number of layers on the GPU; -1 puts as many there as fit.")
    load: Load = Field(Load.START, description="Load the model when the server starts, or at its first request.")
    idle_seconds: float = Field(
        0.0, ge=0, description="Unload the model after this many seconds without a request; 0 never unloads it."
    )
    load_timeout: float = Field(600.0, gt=0, description="Maximum time in seconds to load the model.")
    step_timeout: float = Field(
        300.0,
        ge=0,
        description="Restart the engine process if a step takes longer than this many seconds; 0 never does.",
    )
    restart_wait: float = Field(
        15.0, ge=0, description="Maximum time in seconds that a request waits for an engine restart."
    )
    resume: bool = Field(
        True, description="After a crash of the engine process, continue interrupted answers in the next process."
    )
    max_restarts: int = Field(
        5, ge=0, description="Maximum number of restarts in a row; after that the engine is failed."
    )
    replicas: Annotated[str, BeforeValidator(as_replicas)] = Field(
        "1",
        description="Number of engine replicas of the model in a cluster, or the least and the most of them, such as "
        "1-4.",
    )
    replica_cpus: float = Field(
        0.0, ge=0, description="Cores of each replica in a cluster; 0 asks for as many as threads says, or for one."
    )
    replica_gpus: float = Field(
        0.0, ge=0, description="GPUs of each replica in a cluster; 0 asks for the GPUs of device."
    )
    replica_memory_mb: float = Field(
        0.0, ge=0, description="Memory of each replica in a cluster in MB; 0 goes by the size of the model file."
    )
    max_output_tokens: int = Field(
        0, ge=0, description="Upper limit of an answer's tokens for all requests; 0 sets none but the context."
    )
    default_max_tokens: int = Field(2048, ge=1, description="Maximum tokens of an answer if the request sets none.")


class ModelSettings(ModelDefaults):
    """One ``[[models]]`` table, completed by the shared settings."""

    model: str = Field("", description="Model to serve, as the argument MODEL.")
    name: str = Field("", description="Model name in requests; empty takes the model's own.")
    alias: Names = Field((), description="More names for the model in requests, such as gpt-3.5-turbo.")
    pin: Names = Field((), description="Files with texts to pin in the model's prefix cache, as --pin.")
    variants: tuple[AdapterSettings, ...] = Field((), description="Adapters: tables [[models.variants]].")
    upstream: Annotated[str, AfterValidator(check_upstream)] = Field(
        "", description="Address of a server that runs the model, such as http://10.0.0.7:8000/v1; no file is loaded."
    )
    upstream_model: str = Field("", description="Name of the model there; empty takes name.")
    upstream_key_file: Path | None = Field(None, description="File with the API key of that server, on its first line.")
    upstream_key_env: str = Field("", description="Environment variable with the API key of that server.")
    upstream_timeout: float = Field(
        600.0, gt=0, description="Maximum time in seconds in which that server sends nothing."
    )

    @model_validator(mode="after")
    def _of_one_kind(self) -> "ModelSettings":
        own = [name for name in ("model", "variants", "pin") if getattr(self, name)]
        remote = [name for name in ("upstream_model", "upstream_key_file", "upstream_key_env") if getattr(self, name)]
        if self.upstream and own:
            raise ValueError(f"a model with upstream has no {own[0]}: that server has its files")
        if self.upstream and not (self.name or self.upstream_model):
            raise ValueError("a model with upstream needs a name or upstream_model")
        if self.upstream_key_file and self.upstream_key_env:
            raise ValueError("upstream_key_file and upstream_key_env exclude each other")
        if remote and not self.upstream:
            raise ValueError(f"{remote[0]} needs upstream")
        return self

    @property
    def public_name(self) -> str:
        """The name that the settings give it; empty where its file does."""
        return self.name or (self.upstream_model if self.upstream else "")


class Settings(ModelDefaults):
    """Every setting, checked."""

    model: Names = Field((), description="Models to serve, as the arguments MODEL.")
    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on; 0.0.0.0 listens on all interfaces.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 chooses a free port.")
    model_name: str = Field("", description="Name of the one model in requests; empty takes the model's own.")
    alias: Names = Field((), description="Another name for the one model, such as gpt-3.5-turbo; repeatable.")
    lora: Names = Field(
        (), description="NAME=FILE: also serve the one model with this LoRA adapter, as NAME; repeatable."
    )
    prefix: Names = Field(
        (), description="NAME=FILE: also serve the one model with this P-Tuning v2 prefix, as NAME; repeatable."
    )
    pin: Names = Field(
        (), description="FILE with a common beginning of prompts, pinned in the one model's prefix cache; repeatable."
    )
    pinned_disk_mb: float = Field(
        2048.0, ge=0, description="Maximum total size (MB) of saved pinned prefixes in the cache folder; 0 saves none."
    )
    prompt_disk: bool = Field(
        True, description="Save computed prompts and answers in the cache folder, so that a restart loses none of them."
    )
    prompt_disk_mb: float = Field(
        2048.0, gt=0, description="Maximum total size (MB) of saved prompts; the least recently used go first."
    )
    default_model: str = Field(
        "", description="Model for requests that name none; empty takes the first model that generates text."
    )
    cache_dir: Path = Field(description="Folder of converted models; unless set, glmserve in the user's cache folder.")
    hub: Hub = Field(Hub.HUGGINGFACE, description="Model hub that `pull` downloads from; its flag is --from.")
    api_key: Names = Field(
        (), repr=False, description="Require this API key, NAME:SECRET or SECRET; repeatable. A key file is safer."
    )
    api_key_file: Path | None = Field(None, description="File of API keys, one per line.")
    key_requests: int = Field(0, ge=0, description="Maximum requests per minute of a key; 0 is unlimited.")
    key_tokens: int = Field(
        0, ge=0, description="Maximum tokens per minute of a key, prompts and answers together; 0 is unlimited."
    )
    key_concurrent: int = Field(0, ge=0, description="Maximum concurrent requests of a key; 0 is unlimited.")
    cors_origin: Annotated[Names, AfterValidator(check_origins)] = Field(
        ("local",),
        description="Origin whose pages may call the API from a browser; local allows pages of this machine, * all, "
        "none no page; repeatable.",
    )
    allowed_host: Annotated[Names, AfterValidator(check_hosts)] = Field(
        (),
        description="Host name accepted by a server without keys that listens on loopback only, such as the name of a "
        "reverse proxy; its pages may call the API, too; * accepts any; repeatable.",
    )
    share_prefixes: bool = Field(
        False,
        description="Share the whole prefix cache between API keys; cached_tokens then reveals to one key which "
        "prompts another has sent.",
    )
    public_metrics: bool = Field(
        False, description="Answer /metrics without an API key, for a reader that has none, such as an endpoint picker."
    )
    prompts: Path | None = Field(None, description="Folder with your own tasks, one TOML file per task.")
    builtin_tasks: bool = Field(True, description="Also serve the tasks of the package.")
    pin_task: Names = Field(
        (),
        description="TASK or MODEL:TASK whose prompt beginning is pinned when the model loads; repeatable.",
    )
    strict_fields: bool = Field(
        False,
        description="Reject unknown request fields with 400, instead of ignoring and reporting them.",
    )
    page: bool = Field(True, description="Serve the chat page at /.")
    legacy_room: bool = Field(
        True,
        description="Let an answer of /chatglm, / or /baichuan pass max_length where the prompt fills it, by a quarter "
        "of max_length and 512 tokens at most; off, it gets one token, as the original gave.",
    )
    response_store_mb: float = Field(
        64.0,
        ge=0,
        description="Maximum total size (MB) of stored responses usable as previous_response_id; 0 stores none.",
    )
    response_store_max: int = Field(1000, ge=0, description="Maximum number of stored responses.")
    batch_dir: Path | None = Field(
        None, description="Folder of the files and batches of /v1/batches; unless set, batches in the cache folder."
    )
    batch_store_mb: float = Field(
        2000.0,
        ge=0,
        description="Maximum total size (MB) of the files of batches, results included; 0 serves no batches. With "
        "keys, one key gets half of it.",
    )
    batch_file_mb: float = Field(200.0, gt=0, description="Maximum size of an uploaded file of a batch in MB.")
    batch_file_days: float = Field(
        30.0, ge=0, description="Days after which files of batches are deleted unless they say so themselves; 0 never."
    )
    request_timeout: float = Field(
        3600.0, ge=0, description="Maximum duration of a request in seconds; 0 is unlimited."
    )
    stall_seconds: float = Field(
        60.0, ge=0, description="Disconnect a client that reads nothing for this many seconds; 0 never does."
    )
    max_connections: int = Field(
        4096,
        ge=1,
        description="Connection limit. When full, the longest idle connection is closed, never one with a request in "
        "progress.",
    )
    max_body_mb: float = Field(8.0, gt=0, description="Maximum size of a request body in MB.")
    shutdown_seconds: int = Field(
        8, ge=0, description="Seconds that running requests get to finish when the server stops."
    )
    drain_seconds: float = Field(
        0.0, ge=0, description="Seconds before that in which /health returns 503 and requests are still accepted."
    )
    api_replicas: int = Field(
        1,
        ge=1,
        description="Number of API replicas in a cluster. With several there are no batches and no stored responses, "
        "and the limits of keys are for each.",
    )
    api_cpus: float = Field(1.0, ge=0, description="Cores of each API replica in a cluster.")
    scale_up_seconds: float = Field(
        10.0, ge=0, description="Seconds of more requests than places after which a cluster starts another replica."
    )
    scale_down_seconds: float = Field(
        300.0, ge=0, description="Seconds of fewer requests after which a cluster stops a replica."
    )
    log_level: LogLevel = Field(LogLevel.INFO, description="Lowest level that is logged.")
    log_format: LogFormat = Field(LogFormat.TEXT, description="Format of the log: text for people, JSON for programs.")
    log_prompts: bool = Field(
        False,
        description="Log prompts and answers, which may contain personal data; off, they are never logged.",
    )
    access_log: bool = Field(False, description="Log a line for each HTTP request.")
    tracing: bool = Field(
        False, description="Send OpenTelemetry traces, set up by the OTEL_ variables; needs the extra otel."
    )
    models: tuple[ModelSettings, ...] = Field(min_length=1, description="The models to serve.")

    @property
    def local_models(self) -> tuple[ModelSettings, ...]:
        """The models that this server runs itself."""
        return tuple(model for model in self.models if not model.upstream)

    @property
    def needs_key(self) -> bool:
        """Whether callers need an API key; a setting of keys that names none is an error."""
        return bool(self.api_key) or self.api_key_file is not None


SHARED = frozenset(ModelDefaults.model_fields)
"""Settings that hold for every model whose table does not say otherwise."""

OF_ONE_MODEL = ("model_name", "alias", "lora", "prefix", "pin")
"""Settings for a server with one model; with several models they belong in the ``[[models]]`` tables."""

FLAGS = tuple(name for name in Settings.model_fields if name != "models")
"""Settings with a flag, a variable and a key; ``models`` has tables alone."""

OF_PULL = ("hub",)
"""Settings that `pull` alone has a flag for."""

OF_CLUSTER = (
    "replicas", "replica_cpus", "replica_gpus", "replica_memory_mb", "api_replicas", "api_cpus", "scale_up_seconds",
    "scale_down_seconds",
)  # fmt: skip
"""Settings that `cluster` alone has flags for."""

OF_ONE_SERVER = ("load", "idle_seconds", "stall_seconds")
"""Settings that mean nothing in a cluster, which loads the models and has the connections."""
