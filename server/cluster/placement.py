"""How many replicas a model has, and the part of a machine that each of them asks for. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from glmserve.config.schema import ModelSettings, Settings
from glmserve.config.values import replica_bounds
from glmserve.engine.config import CACHE_BYTES_AUTO, Device, parse_device

_PROCESS_BYTES = 512 * 2**20
"""Of a replica's two Python processes, and llama.cpp's buffers for a batch."""


@dataclass(frozen=True, slots=True)
class Placement:
    """The resources of one replica."""

    cpus: float
    gpus: float
    memory_bytes: int
    """Of the machine; 0 asks for none."""

    @property
    def actor_options(self) -> Mapping[str, float]:
        """The same in Ray's words."""
        options: dict[str, float] = {"num_cpus": self.cpus, "num_gpus": self.gpus}
        return {**options, "memory": self.memory_bytes} if self.memory_bytes else options


def place(model: ModelSettings, size_bytes: int, kv_bytes_per_token: int, context: int) -> Placement:
    """Return the part of a machine that a replica of ``model`` asks for.

    Args:
        model: its settings.
        size_bytes: of its file; 0 where it is not known yet.
        kv_bytes_per_token: of its KV cache at f16.
        context: tokens of a request.
    """
    device, numbers = parse_device(model.device)
    gpus = model.replica_gpus or (float(max(1, len(numbers))) if device is Device.CUDA else 0.0)
    memory = int(model.replica_memory_mb * 1e6)
    if not memory and size_bytes:
        memory = _PROCESS_BYTES + size_bytes + (0 if gpus else _cache_bytes(model, kv_bytes_per_token, context))
    return Placement(model.replica_cpus or float(model.threads or 1), gpus, memory)


def _cache_bytes(model: ModelSettings, kv_bytes_per_token: int, context: int) -> int:
    each = model.kv_type.bytes_for(kv_bytes_per_token)
    if model.cache_tokens:
        return model.cache_tokens * each
    return min(CACHE_BYTES_AUTO, (model.context or context) * model.parallel * each)


def as_placed(model: ModelSettings) -> ModelSettings:
    """Return the settings of the engine in a replica, which sees the processors and GPUs that the cluster gives it."""
    device, _ = parse_device(model.device)
    cores = math.floor(model.replica_cpus)
    if device is Device.AUTO:  # it would take any GPU that it sees, which may be another replica's
        device = Device.CUDA if model.replica_gpus else Device.CPU
    changes: dict[str, object] = {"device": device.value}
    if cores and not model.threads:
        changes["threads"] = cores
    if cores and not model.threads_batch:
        changes["threads_batch"] = cores
    return model.model_copy(update=changes)


@dataclass(frozen=True, slots=True)
class Scaling:
    """How many replicas there are, and after how many requests more."""

    least: int
    most: int
    requests_each: int
    """Running and waiting requests of a replica, above which there is to be one more."""
    most_requests: int
    """That one replica takes."""
    up_seconds: float
    down_seconds: float

    @property
    def options(self) -> Mapping[str, object]:
        """The same in Ray's words."""
        taken: dict[str, object] = {"max_ongoing_requests": self.most_requests}
        if self.least == self.most:
            return {**taken, "num_replicas": self.least}
        return {
            **taken,
            "autoscaling_config": {
                "min_replicas": self.least,
                "max_replicas": self.most,
                "target_ongoing_requests": self.requests_each,
                "upscale_delay_s": self.up_seconds,
                "downscale_delay_s": self.down_seconds,
                "metrics_interval_s": min(10.0, max(0.5, self.up_seconds / 2)),
                "look_back_period_s": min(30.0, max(1.0, self.up_seconds)),
            },
        }


def scaling(settings: Settings, model: ModelSettings) -> Scaling:
    """Return how ``model`` is scaled: a replica more where all places of the present ones are taken."""
    least, most = replica_bounds(model.replicas)
    return Scaling(
        least,
        most,
        model.parallel,
        model.parallel + model.max_waiting,
        settings.scale_up_seconds,
        settings.scale_down_seconds,
    )
