"""What llama.cpp was built for, which devices are there, and what of a model goes on which."""

import ctypes
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import llama_cpp

from server.engine.config import CACHE_BYTES_AUTO, Device, EngineConfig
from server.engine.errors import ModelLoadError
from server.engine.gguf_check import ModelFacts

log = logging.getLogger(__name__)

GPU_RESERVE_BYTES = 768 * 2**20
"""Left free on a GPU for compute buffers and the CUDA context (llama.cpp's own fit leaves 1 GiB)."""

_KINDS = {0: "cpu", 1: "gpu", 2: "integrated gpu", 3: "accelerator", 4: "meta"}
"""enum ggml_backend_dev_type of ggml-backend.h."""


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
    """What this llama.cpp can do on this machine."""

    version: str
    system_info: str
    gpu_offload: bool
    devices: tuple[DeviceFacts, ...]


@dataclass(frozen=True, slots=True)
class Placement:
    """The figures a model is loaded with; every 0 of the configuration is decided."""

    gpu_layers: int
    """Of the model's layers plus one for the output; 0 is the CPU alone."""
    context_length: int
    cache_cells: int
    threads: int
    threads_batch: int
    device: str
    """In words, for the log and for ``glmserve doctor``."""


def probe() -> BuildFacts:
    """Ask llama.cpp what it was built with and ggml which devices it sees."""
    # This question comes first: it loads the backends, where they are plug-ins.
    gpu_offload = bool(llama_cpp.llama_supports_gpu_offload())
    info = llama_cpp.llama_print_system_info()
    return BuildFacts(
        version=llama_cpp.__version__,
        system_info=(info or b"").decode("utf-8", "replace").strip(),
        gpu_offload=gpu_offload,
        devices=_devices(),
    )


def _devices() -> tuple[DeviceFacts, ...]:
    # The handle of libllama finds the symbols of the ggml that it uses. Its wheel holds each library under three
    # names, as copies: opening libggml by another name would give a second one, with a registry of its own.
    ggml = ctypes.CDLL(str(Path(llama_cpp.__file__).parent / "lib" / "libllama.so"))
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
    """Decide what the configuration leaves open.

    Raises:
        ModelLoadError: CUDA is demanded and there is none, or the context is longer than the model's.
    """
    context_length = config.context_length or facts.context_train
    if context_length > facts.context_train:
        raise ModelLoadError(
            f"a context of {context_length} tokens was asked for; "
            f"{facts.path.name} was trained for {facts.context_train}"
        )
    cells = config.cache_cells or auto_cells(context_length, config.parallel, facts.kv_bytes_per_token)
    if cells < context_length:
        raise ModelLoadError(f"a cache of {cells} tokens cannot hold one context of {context_length}")
    gpu_layers = _choose_layers(config, facts, build, cells)
    threads = config.threads or usable_cores()
    return Placement(
        gpu_layers=gpu_layers,
        context_length=context_length,
        cache_cells=cells,
        threads=threads,
        threads_batch=config.threads_batch or threads,
        device=_in_words(gpu_layers, facts, build, threads),
    )


def auto_cells(context_length: int, parallel: int, kv_bytes_per_token: int) -> int:
    """Cells for every slot's whole context, but no more than CACHE_BYTES_AUTO holds and never less than one."""
    affordable = CACHE_BYTES_AUTO // kv_bytes_per_token
    return max(context_length, min(context_length * parallel, affordable))


def fit_layers(facts: ModelFacts, cells: int, free_bytes: int) -> int:
    """Layers, from the last one down, that fit into ``free_bytes`` with their share of the cache.

    The output matrix counts as one layer more, and goes first, as llama.cpp has it.
    """
    kv_per_layer = facts.kv_bytes_per_token * cells // facts.layers
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


def usable_cores() -> int:
    """Cores this process may run on, which in a container are fewer than the machine's."""
    return max(1, len(os.sched_getaffinity(0)))


def _choose_layers(config: EngineConfig, facts: ModelFacts, build: BuildFacts, cells: int) -> int:
    if config.device is Device.CPU:
        return 0
    gpus = [device for device in build.devices if device.kind == "gpu"]
    if not gpus:
        reason = "no GPU was found" if build.gpu_offload else "this build of llama.cpp has no GPU support"
        if config.device is Device.CUDA:
            raise ModelLoadError(f"--device cuda was asked for, but {reason}; use --device auto or cpu")
        log.info("running on the CPU: %s", reason)
        return 0
    if config.gpu_layers >= 0:
        return min(config.gpu_layers, facts.layers + 1)
    fitting = fit_layers(facts, cells, sum(gpu.free_bytes for gpu in gpus))
    if not fitting:
        log.warning("running on the CPU: not one layer fits into the free memory of %s", gpus[0].name)
    return fitting


def _in_words(gpu_layers: int, facts: ModelFacts, build: BuildFacts, threads: int) -> str:
    gpus = ", ".join(device.description for device in build.devices if device.kind == "gpu")
    cpu = f"CPU, {threads} threads"
    if not gpu_layers:
        return cpu
    if gpu_layers > facts.layers:
        return gpus
    return f"{gpus} ({gpu_layers} of {facts.layers + 1} layers) and {cpu}"
