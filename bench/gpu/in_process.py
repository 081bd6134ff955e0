"""Steps on llama.cpp itself, in this process: memory, logits, layers on the device, types of the cache."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.gpu.plan import Row
from bench.gpu.setup import Bench, gpu_memory
from bench.quantisation_quality import Logs, Sample, make_samples
from glmserve.engine.config import Device, EngineConfig, KvType
from glmserve.engine.gguf.gguf_check import check_gguf
from glmserve.engine.llama.placement import place, probe
from glmserve.engine.llama.runner import LlamaModelRunner
from glmserve.engine.messages import Submit
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.step_budget import TokenBudgetPolicy
from glmserve.engine.worker.core import EngineCore
from tests.support.native import compute_logits, loaded

_ALL = 999
_TEXTS = 10
"""Held-out texts of each kind whose logits are compared."""
_PROMPT, _ANSWER = 512, 64


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens a second of one sequence, and its answer."""

    prompt: float
    answer: float
    ids: tuple[int, ...]


def fit(bench: Bench) -> Iterator[Row]:
    """Compare the planned memory with the memory that the driver reports as used."""
    facts = check_gguf(bench.model)
    for context, parallel in ((4096, 8), (0, 8)):
        placement = place(_config(bench, context_length=context, parallel=parallel), facts, probe())
        planned = f"{placement.gpu_layers} of {facts.layers + 1} layers, cache {placement.cache_bytes / 2**20:.0f} MiB"
        yield Row(f"context {placement.context_length}", f"{planned}; {placement.in_words}")
    yield Row("weights", f"{facts.size_bytes / 2**20:.0f} MiB")
    began = time.monotonic()
    runner = LlamaModelRunner(_config(bench), facts)
    runner.self_test()
    yield Row("loaded and tested in", f"{time.monotonic() - began:.1f} s")
    if used := gpu_memory():
        yield Row("memory in use, loaded", used)
    runner.close()
    if used := gpu_memory():
        yield Row("memory in use, closed", used)


def logits(bench: Bench) -> Iterator[Row]:
    """Compare distributions over the next token, computed on the CPU and on the device."""
    for path in dict.fromkeys((bench.exact, bench.model)):
        texts = _TEXTS if path == bench.exact else 2
        samples = tuple(make_samples(path, texts))
        cpu = list(_logits(path, samples, 0))
        device = list(_logits(path, samples, _ALL if bench.on_gpu else 0))
        largest = max(float(np.abs(a - b).max()) for a, b in zip(cpu, device, strict=True))
        pairs = list(zip(map(_logs, cpu), map(_logs, device), strict=True))
        divergence = float(np.concatenate([(np.exp(a) * (a - b)).sum(axis=1) for a, b in pairs]).mean())
        same = float(np.concatenate([a.argmax(axis=1) == b.argmax(axis=1) for a, b in pairs]).mean())
        count = sum(map(len, cpu))
        yield Row(
            f"{path.name}, {count} tokens",
            f"largest difference {largest:.4f}, mean KL divergence {divergence:.2e}, same first choice {same:.2%}",
        )


def _logits(path: Path, samples: tuple[Sample, ...], gpu_layers: int) -> Iterator[Logs]:
    with loaded(path, gpu_layers=gpu_layers) as model:
        for sample in samples:
            yield compute_logits(model, sample.ids).astype(np.float64)


def _logs(values: Logs) -> Logs:
    shifted = values - values.max(axis=1, keepdims=True)
    logs: Logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logs


def layers(bench: Bench) -> Iterator[Row]:
    """Time one sequence with all, half and none of the layers on the device; the answers must be the same."""
    count = check_gguf(bench.model).layers + 1
    first: Speed | None = None
    for layers_there in (count, count // 2, 0) if bench.on_gpu else (0,):
        speed = _speed(_config(bench, gpu_layers=layers_there))
        first = first or speed
        yield Row(f"{layers_there} of {count} layers", _in_words(speed, first))


def kv_types(bench: Bench) -> Iterator[Row]:
    """Time one sequence with each type of the cache."""
    first: Speed | None = None
    for kind in KvType:
        speed = _speed(_config(bench, kv_type=kind))
        first = first or speed
        yield Row(kind.value, _in_words(speed, first))


def _in_words(speed: Speed, first: Speed) -> str:
    same = next((i for i, (a, b) in enumerate(zip(speed.ids, first.ids, strict=True)) if a != b), len(first.ids))
    return (
        f"prompt {speed.prompt:.0f} tokens/s, answer {speed.answer:.1f} tokens/s, "
        f"{same} of {len(first.ids)} tokens as in the first row"
    )


def _config(bench: Bench, **changes: object) -> EngineConfig:
    device = Device.CUDA if bench.on_gpu else Device.CPU
    config = EngineConfig(bench.model, context_length=2048, parallel=8, device=device)
    return replace(config, **changes)  # type: ignore[arg-type] # fields of the class


def _speed(config: EngineConfig) -> Speed:
    """Time a prompt and its answer with a model that is loaded anew, after a first one that is not counted."""
    runner = LlamaModelRunner(config, check_gguf(config.model_path))
    policy = TokenBudgetPolicy(config.step_seconds, config.batch_size, runner.attention_tile)
    core = EngineCore(runner, policy)
    try:
        _answer(core, 0, 1)
        return _answer(core, 1, _ANSWER)
    finally:
        core.close()
        runner.close()


def _answer(core: EngineCore, number: int, tokens: int) -> Speed:
    prompt = tuple(100 + (number * 61 + i * 7919) % 150 for i in range(_PROMPT))
    began = time.perf_counter()
    core.submit(Submit(number, prompt, SamplingParams(max_tokens=tokens, temperature=0.0, ignore_eos=True)))
    ids: list[int] = []
    first = 0.0
    while core.has_work:
        for output in core.step().outputs:
            ids += output.token_ids
            first = first or time.perf_counter()
    answered = time.perf_counter() - first
    return Speed(_PROMPT / (first - began), (tokens - 1) / answered if tokens > 1 else 0.0, tuple(ids))
