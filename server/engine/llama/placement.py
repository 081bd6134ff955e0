"""The build of llama.cpp, the devices, and the placement of a model on them."""

import ctypes
import logging
from dataclasses import dataclass, replace
from pathlib import Path

import llama_cpp

from glmserve.engine.config import CACHE_BYTES_AUTO, Device, EngineConfig, FlashAttention, KvType
from glmserve.engine.errors import ModelLoadError
from glmserve.engine.gguf.gguf_check import ModelFacts
from glmserve.engine.llama.cpu_topology import Cores, batch_candidates, candidates, find_cores

log = logging.getLogger(__name__)

GPU_RESERVE_BYTES = 768 * 2**20
"""Left free on a GPU for compute buffers and the CUDA context (llama.cpp's own fit leaves 1 GiB)."""

CACHED_SLOTS = 64
"""Slots beyond the running ones, which hold cached prefixes."""

STATE_BYTES = 2**30
"""Most bytes of running states in these slots, and again in host memory; a few slots there are in any case."""

_LEAST_CACHED_SLOTS = 4

MAX_SLOTS = 256
"""LLAMA_MAX_SEQ of the vendored llama.cpp."""

MEASURED_BYTES = 256 * 2**20
"""Weights below which the number of threads is not worth measuring."""

_KINDS = {0: "cpu", 1: "gpu", 2: "integrated gpu", 3: "accelerator", 4: "meta"}
"""enum ggml_backend_dev_type of ggml-backend.h."""

_BACKENDS_WITHOUT_GPU = ("CPU", "BLAS", "RPC")


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """One device as ggml reports it."""

    name: str
    description: str
    kind: str
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class BuildFacts:
    """Capabilities of this llama.cpp on this machine."""

    version: str
    system_info: str
    gpu_offload: bool
    """Whether there is a GPU that it can use. A build for CUDA says no where the driver is missing or too old."""
    devices: tuple[DeviceFacts, ...]
    cores: Cores
    backends: tuple[str, ...] = ("CPU",)
    """Kinds of devices that it was built for, such as CUDA and CPU."""

    @property
    def gpu_backends(self) -> tuple[str, ...]:
        """The kinds of GPUs that it was built for."""
        return tuple(name for name in self.backends if name not in _BACKENDS_WITHOUT_GPU)


@dataclass(frozen=True, slots=True)
class Placement:
    """The figures a model is loaded with; every 0 of the configuration is decided."""

    gpu_layers: int
    """Of the model's layers plus one for the output; 0 is the CPU alone."""
    context_length: int
    cache_cells: int
    slots: int
    """``llama_seq_id`` lanes: of running sequences, and of cached prefixes."""
    kv_bytes_per_token: int
    """In the type of the cache."""
    threads: int
    threads_batch: int
    threads_to_try: tuple[int, ...]
    """Numbers of threads that may generate faster, to be measured with the model; empty where it is decided."""
    device: str
    """In words, for the log and for ``glmserve doctor``."""
    on_cpu: bool
    """Whether the CPU computes any of it."""
    threads_batch_to_try: tuple[int, ...] = ()
    """The same for prefill."""
    threads_vary: bool = False
    """Whether a step may do with fewer while other programs use the cores."""

    @property
    def in_words(self) -> str:
        """Where it computes, and with how many threads."""
        return f"{self.device}, {self.threads} threads" if self.on_cpu else self.device

    @property
    def cache_bytes(self) -> int:
        """Memory of the whole KV cache."""
        return self.kv_bytes_per_token * self.cache_cells


def probe() -> BuildFacts:
    """Ask llama.cpp for its build options and ggml for its devices."""
    # This question comes first: it loads the backends, where they are plug-ins.
    gpu_offload = bool(llama_cpp.llama_supports_gpu_offload())
    info = llama_cpp.llama_print_system_info()
    return BuildFacts(
        version=llama_cpp.__version__,
        system_info=(info or b"").decode("utf-8", "replace").strip(),
        gpu_offload=gpu_offload,
        devices=_devices(ggml := _ggml()),
        cores=find_cores(),
        backends=_backends(ggml),
    )


def _ggml() -> ctypes.CDLL:
    # The handle of libllama finds the symbols of the ggml that it uses. Its wheel holds each library under three
    # names, as copies: opening libggml by another name would give a second one, with a registry of its own.
    return ctypes.CDLL(str(Path(llama_cpp.__file__).parent / "lib" / "libllama.so"))


def _backends(ggml: ctypes.CDLL) -> tuple[str, ...]:
    ggml.ggml_backend_reg_count.restype = ctypes.c_size_t
    ggml.ggml_backend_reg_get.argtypes, ggml.ggml_backend_reg_get.restype = [ctypes.c_size_t], ctypes.c_void_p
    ggml.ggml_backend_reg_name.argtypes, ggml.ggml_backend_reg_name.restype = [ctypes.c_void_p], ctypes.c_char_p
    backends = (ggml.ggml_backend_reg_get(index) for index in range(ggml.ggml_backend_reg_count()))
    return tuple(ggml.ggml_backend_reg_name(backend).decode() for backend in backends)


def _devices(ggml: ctypes.CDLL) -> tuple[DeviceFacts, ...]:
    ggml.ggml_backend_dev_count.restype = ctypes.c_size_t
    ggml.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    ggml.ggml_backend_dev_get.restype = ctypes.c_void_p
    return tuple(_describe(ggml, ggml.ggml_backend_dev_get(index)) for index in range(ggml.ggml_backend_dev_count()))


def _describe(ggml: ctypes.CDLL, device: int) -> DeviceFacts:
    for function in (ggml.ggml_backend_dev_name, ggml.ggml_backend_dev_description):
        function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_char_p
    ggml.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    ggml.ggml_backend_dev_memory.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    ggml.ggml_backend_dev_memory.restype = None
    ggml.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
    return DeviceFacts(
        name=ggml.ggml_backend_dev_name(device).decode(),
        description=ggml.ggml_backend_dev_description(device).decode("utf-8", "replace"),
        kind=_KINDS.get(ggml.ggml_backend_dev_type(device), "unknown"),
        free_bytes=free.value,
        total_bytes=total.value,
    )


def place(config: EngineConfig, facts: ModelFacts, build: BuildFacts) -> Placement:
    """Decide the values that the configuration leaves open.

    Raises:
        ModelLoadError: CUDA is demanded and there is none, or the context is longer than the model's.
    """
    if facts.embeds:  # settings of the cache, which it has not, are meant for the models beside it
        context = min(config.context_length, facts.context_train)
        config = replace(config, cache_cells=0, kv_type=KvType.F16, context_length=context)
    context_length = _context_length(config, facts)
    _check_kv_type(config, facts)
    kv_bytes = config.kv_type.bytes_for(facts.kv_bytes_per_token)
    cells = config.cache_cells or auto_cells(context_length, config.parallel, kv_bytes)
    if cells < context_length:
        raise ModelLoadError(f"a cache of {cells} tokens is smaller than one context of {context_length} tokens")
    slots = min(MAX_SLOTS, config.parallel + cached_slots(facts.state_bytes))
    gpu_layers = _choose_layers(config, facts, build, cells, kv_bytes, states=slots * facts.state_bytes)
    on_cpu = gpu_layers <= facts.layers
    undecided = on_cpu and not config.threads and facts.size_bytes >= MEASURED_BYTES
    to_try = candidates(build.cores) if undecided else ()
    batch_to_try = batch_candidates(build.cores) if undecided and not config.threads_batch else ()
    return Placement(
        gpu_layers=gpu_layers,
        context_length=context_length,
        cache_cells=cells,
        slots=slots,
        kv_bytes_per_token=kv_bytes,
        threads=config.threads or build.cores.physical,
        threads_batch=config.threads_batch or config.threads or build.cores.physical,
        threads_to_try=to_try if len(to_try) > 1 else (),
        threads_batch_to_try=batch_to_try if len(batch_to_try) > 1 else (),
        threads_vary=not gpu_layers and not config.threads and build.cores.physical > 1,
        device=_in_words(gpu_layers, facts, build),
        on_cpu=on_cpu,
    )


def _context_length(config: EngineConfig, facts: ModelFacts) -> int:
    """Return the tokens of a context. Raises ModelLoadError where more are demanded than the model was trained for."""
    if config.context_length > facts.context_train:
        raise ModelLoadError(
            f"a context of {config.context_length} tokens was asked for; "
            f"{facts.path.name} was trained for {facts.context_train}"
        )
    return config.context_length or facts.context_train


def _check_kv_type(config: EngineConfig, facts: ModelFacts) -> None:
    """Raise ModelLoadError where the KV cache cannot be of the type that is asked for."""
    kind = config.kv_type
    if not kind.is_quantised:
        return
    if config.flash_attn is FlashAttention.OFF:
        raise ModelLoadError(f"--kv-type {kind.value} needs flash attention; leave out --flash-attn off")
    if facts.head_size % 32:
        raise ModelLoadError(
            f"--kv-type {kind.value} needs heads of a multiple of 32 values; {facts.path.name} has {facts.head_size}"
        )
    prefixes = [adapter.name for adapter in config.adapters if adapter.prefix]
    if prefixes:
        raise ModelLoadError(
            f"the prefix of {prefixes[0]} needs --kv-type {KvType.F16.value}, as its values are written into the cache"
        )


def auto_cells(context_length: int, parallel: int, kv_bytes_per_token: int) -> int:
    """Cells for every slot's whole context, but no more than CACHE_BYTES_AUTO holds and never less than one."""
    affordable = CACHE_BYTES_AUTO // max(1, kv_bytes_per_token)  # an embedding model has no cache
    return max(context_length, min(context_length * parallel, affordable))


def cached_slots(state_bytes: int) -> int:
    """Return the number of slots for cached prefixes; each has a running state of ``state_bytes``."""
    return CACHED_SLOTS if not state_bytes else max(_LEAST_CACHED_SLOTS, min(CACHED_SLOTS, STATE_BYTES // state_bytes))


def fit_layers(facts: ModelFacts, cells: int, kv_bytes_per_token: int, free_bytes: int) -> int:
    """Layers, from the last one down, that fit into ``free_bytes`` with their share of the cache.

    The output matrix counts as one layer more, and goes first, as llama.cpp has it.
    """
    kv_per_layer = kv_bytes_per_token * cells // facts.layers
    room = free_bytes - GPU_RESERVE_BYTES - facts.other_bytes
    if room < 0:
        return 0
    fitting = 1
    for weights in reversed(facts.layer_bytes):
        room -= weights + kv_per_layer
        if room < 0:
            break
        fitting += 1
    return fitting


def _choose_layers(
    config: EngineConfig, facts: ModelFacts, build: BuildFacts, cells: int, kv_bytes: int, *, states: int
) -> int:
    if config.device is Device.CPU:
        return 0
    gpus = [device for device in build.devices if device.kind == "gpu"]
    if not gpus:
        reason = _why_no_gpu(build)
        if config.device is Device.CUDA:
            raise ModelLoadError(f"--device cuda was asked for, but {reason}; use --device auto or cpu")
        log.info("running on the CPU: %s", reason)
        return 0
    if config.gpu_layers >= 0:
        return min(config.gpu_layers, facts.layers + 1)
    fitting = fit_layers(facts, cells, kv_bytes, sum(gpu.free_bytes for gpu in gpus) - states)
    if not fitting:
        log.warning("running on the CPU: not one layer fits into the free memory of %s", gpus[0].name)
    return fitting


def _why_no_gpu(build: BuildFacts) -> str:
    if not build.gpu_backends:
        return "this build of llama.cpp has no GPU support"
    return f"{' and '.join(build.gpu_backends)} finds no GPU: none is there, or its driver is missing or too old"


def _in_words(gpu_layers: int, facts: ModelFacts, build: BuildFacts) -> str:
    gpus = ", ".join(device.description for device in build.devices if device.kind == "gpu")
    if not gpu_layers:
        return "CPU"
    if gpu_layers > facts.layers:
        return gpus
    return f"{gpus} ({gpu_layers} of {facts.layers + 1} layers) and CPU"
