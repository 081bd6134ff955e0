"""Divides the settings of a model, its processors and its GPUs among several engines. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from glmserve.engine.config import PER_GPU, Device, EngineConfig
from glmserve.engine.llama.cpu_topology import Processor


def count_engines(engines: str, device: Device, gpus: Sequence[int]) -> int:
    """Return how many engines "2" or "per-gpu" means on a machine with ``gpus``."""
    if engines != PER_GPU:
        return int(engines)
    return max(1, len(gpus)) if device is not Device.CPU else 1


def divide(
    config: EngineConfig, count: int, processors: Sequence[Processor], gpus: Sequence[int]
) -> tuple[EngineConfig, ...]:
    """Return a configuration for each of ``count`` engines.

    The figures of a model are for all of its engines together: each gets its share.
    """
    if count == 1:
        return (config,)
    cells = max(config.cache_cells // count, config.context_length) if config.cache_cells else 0
    share = replace(
        config,
        parallel=-(-config.parallel // count),
        max_waiting=-(-config.max_waiting // count),
        cache_cells=cells,
        threads=max(1, config.threads // count) if config.threads else 0,
        threads_batch=max(1, config.threads_batch // count) if config.threads_batch else 0,
    )
    on_gpus = bool(gpus) and config.device is not Device.CPU
    cpus = split_processors(processors, count)
    return tuple(
        replace(share, cpus=cpus[i], gpus=tuple(gpus[i::count]) or (gpus[i % len(gpus)],) if on_gpus else ())
        for i in range(count)
    )


def split_processors(processors: Sequence[Processor], count: int) -> tuple[tuple[int, ...], ...]:
    """Return the processors of each engine: whole cores, near each other; all of them where there are too few."""
    cores: dict[str, list[Processor]] = {}
    for processor in sorted(processors, key=lambda one: (one.node, one.number)):
        cores.setdefault(processor.core, []).append(processor)
    if len(cores) < count:
        return ((),) * count
    each = list(cores.values())
    bounds = [len(each) * i // count for i in range(count + 1)]
    return tuple(
        tuple(sorted(processor.number for core in each[bounds[i] : bounds[i + 1]] for processor in core))
        for i in range(count)
    )
