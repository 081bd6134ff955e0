"""Configuration of an engine process."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import MappingProxyType


class ComputeMode(str, Enum):
    """From the fastest to the safest. Each one leaves out all that the ones before it leave out."""

    STANDARD = "standard"
    """As llama.cpp decides."""
    NO_EXTRA_BUFFERS = "no_extra_buffers"
    """Weights stay as they lie in the file. Without repacked weights there is no AMX either: it takes no others."""
    PLAIN_KERNELS = "plain_kernels"
    """Also without tiled matrix products and without fused operations."""

    @property
    def extra_buffers(self) -> bool:
        """Whether llama.cpp may repack weights for the CPU, which AMX needs."""
        return self is ComputeMode.STANDARD

    @property
    def environment(self) -> Mapping[str, str]:
        """Environment variables that llama.cpp reads when it is loaded."""
        return _PLAIN if self is ComputeMode.PLAIN_KERNELS else {}

    @property
    def in_words(self) -> str:
        """For the log and for ``glmserve doctor``."""
        return _WORDS[self]

    @property
    def safer(self) -> "ComputeMode | None":
        """The next one; None after the safest."""
        modes = list(ComputeMode)
        after = modes.index(self) + 1
        return modes[after] if after < len(modes) else None


_PLAIN = MappingProxyType({"GGML_CPU_TILED_MM": "0", "GGML_CPU_DISABLE_FUSION": "1"})

_WORDS = MappingProxyType(
    {
        ComputeMode.STANDARD: "as built",
        ComputeMode.NO_EXTRA_BUFFERS: "without repacked weights and AMX",
        ComputeMode.PLAIN_KERNELS: "without repacked weights, AMX, tiled and fused kernels",
    }
)


class Repack(str, Enum):
    """Whether llama.cpp repacks weights for the CPU, which AMX needs. AUTO measures which way is faster."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class FlashAttention(str, Enum):
    """AUTO is ON where llama.cpp has it for the device, which the CPU has. OFF takes memory for a matrix of scores."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class Device(str, Enum):
    """Where the model runs. AUTO is CUDA where the build has it and a device is there, else the CPU."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


PER_GPU = "per-gpu"
_CUDA = "cuda:"


def parse_device(device: str) -> tuple[Device, tuple[int, ...]]:
    """Return the kind of device and the numbers of the GPUs that "cuda:0,cuda:1" names; "auto" names none.

    Raises:
        ValueError: it is neither a kind nor a list of CUDA devices.
    """
    if not device.startswith(_CUDA):
        return Device(device), ()
    names = device.split(",")
    if not all(name.startswith(_CUDA) and name.removeprefix(_CUDA).isdecimal() for name in names):
        raise ValueError(f"{device!r} is no list of CUDA devices such as cuda:0,cuda:1")
    return Device.CUDA, tuple(dict.fromkeys(int(name.removeprefix(_CUDA)) for name in names))


class KvType(str, Enum):
    """How the KV cache keeps keys and values. The quantised types need flash attention and heads of 32 values."""

    F16 = "f16"
    Q8_0 = "q8_0"
    Q4_0 = "q4_0"

    @property
    def is_quantised(self) -> bool:
        """Whether values are kept in blocks of 32 with a common scale."""
        return self is not KvType.F16

    def bytes_for(self, f16_bytes: int) -> int:
        """Bytes in this type for ``f16_bytes`` at f16: a block of 32 values, then 64, takes 34 or 18 with its scale."""
        return f16_bytes * {KvType.F16: 64, KvType.Q8_0: 34, KvType.Q4_0: 18}[self] // 64


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter, which shares the model's weights: a LoRA, a P-Tuning prefix, or both."""

    name: str
    lora: Path | None = None
    prefix: Path | None = None


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Everything the worker process needs; sizes are in tokens, times in seconds.

    A 0 means "decide from the model and the machine".
    """

    model_path: Path
    context_length: int = 0
    """Tokens per sequence; 0 takes the model's training context."""
    parallel: int = 8
    """Sequences that run at once."""
    cache_cells: int = 0
    """Tokens of all sequences and cached prefixes; 0 is context times parallel, within CACHE_BYTES_AUTO."""
    max_waiting: int = 64
    """Maximum number of waiting requests; see ``admission``."""
    kv_type: KvType = KvType.F16
    threads: int = 0
    """Threads that generate; 0 goes by the cores, and by measurement where there are several choices."""
    threads_batch: int = 0
    """Threads that read prompts; 0 is one for each core."""
    batch_size: int = 512
    """Most tokens of one step."""
    step_seconds: float = 0.25
    """Target duration of a step while a client is streaming; see ``step_budget`` for steps of prompts alone."""
    speculation: bool = True
    """Draft tokens from earlier occurrences of the last ones, and compute the drafts where that pays."""
    deterministic: bool = False
    """All answers are repeatable, as those with a seed."""
    device: Device = Device.AUTO
    gpu_layers: int = -1
    """Layers on the GPU; -1 is as many as fit."""
    cpus: tuple[int, ...] = ()
    """Numbers of the processors that compute; all that the server may use where there are none."""
    gpus: tuple[int, ...] = ()
    """Numbers of the CUDA devices, as CUDA_VISIBLE_DEVICES has them; all where there are none."""
    load_timeout: float = 600.0
    step_timeout: float = 300.0
    """How long a process that has work may say nothing before it is killed and restarted; 0 is for ever. On a busy
    machine a step of 512 prompt tokens has been seen to take a minute."""
    restart_wait: float = 15.0
    """How long a new request waits for an engine that is restarting."""
    repack: Repack = Repack.AUTO
    flash_attn: FlashAttention = FlashAttention.AUTO
    compute_mode: ComputeMode = ComputeMode.STANDARD
    mode_dir: Path | None = None
    """Where it is remembered which modes work on this machine, and which is the fastest; nowhere where it is None."""
    self_test: bool = True
    """Compute a few tokens in batches of several sizes before the first request, and compare."""
    adapters: tuple[Adapter, ...] = ()
    end_tokens: tuple[str, ...] = ()
    """Names of special tokens that end an answer in addition to llama.cpp's own; absent ones do not matter."""
    pinned_cells: int = 0
    """Room for pinned prefixes, on top of ``cache_cells``."""
    state_dir: Path | None = None
    """Where the computed state of pinned prefixes is kept from one start to the next."""
    state_bytes: int = 2 * 2**30
    """Maximum size of that folder in bytes, from all servers; 0 keeps nothing."""
    prompt_dir: Path | None = None
    """Where computed prompts and answers are kept from one process to the next; nowhere where it is None."""
    prompt_bytes: int = 2 * 2**30
    """Maximum size of that folder in bytes, from all servers."""
    resume: bool = True
    """Continue the answers of a process that died in the next one."""
    max_restarts: int = 5
    """Restarts in a row, without an answered request between them, before the engine counts as failed."""


CACHE_BYTES_AUTO = 2 * 2**30
"""Most bytes of KV cache that ``cache_cells = 0`` asks for."""
