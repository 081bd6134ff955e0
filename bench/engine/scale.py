"""Measures how the scheduler's own step grows with running sequences and cached prefixes.

    python -m bench.engine.scale [--tokens 50] [--prefixes 0 1000 10000]
    python -m bench.engine.scale --model MODEL.gguf [--streams 1 8 64 256]

Without ``--model`` no model is loaded: the model runner is a script that costs next to nothing. Microseconds are CPU
time of the engine's Python, the least of three runs: of a decoding step, for each of its tokens, and of the admission
of a request whose prompt has a cached beginning among that many others.

With a model, streams generate through it. The wall time of their steps is divided into llama.cpp's functions and all
else: this engine's Python, ctypes, and the stopwatch itself.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar
from unittest.mock import patch

import llama_cpp

from bench.tables import spread
from glmserve.engine.config import Device, EngineConfig
from glmserve.engine.gguf.gguf_check import check_gguf
from glmserve.engine.kv_cache.ops import CacheOp
from glmserve.engine.llama.model_loading import route_log
from glmserve.engine.llama.runner import LlamaModelRunner
from glmserve.engine.llama.threads import AdaptiveThreads
from glmserve.engine.messages import SampledToken, Submit
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.batch import BatchItem
from glmserve.engine.scheduler.step_budget import TokenBudgetPolicy
from glmserve.engine.speculative import SpeculativeController
from glmserve.engine.worker.core import EngineCore
from tests.support.scripted_runner import ScriptedRunner

RUNNING = (1, 8, 64, 256)
PROMPT = 64
_CACHED_SLOTS = 64
_RUNS = 3
_FIRST_ID = 300
_ORDINARY = 1200
"""Ids of ordinary tokens in each model, from the first one on."""
_TIMED = (
    (AdaptiveThreads, "decode"),
    (llama_cpp, "llama_sampler_sample"),
    (llama_cpp, "llama_get_logits"),
    (llama_cpp, "llama_get_logits_ith"),
)
"""Functions that a step of plain answers calls; the first adds some microseconds of Python to ``llama_decode``."""


P = ParamSpec("P")
R = TypeVar("R")


class _Runner(ScriptedRunner):
    """A model runner that keeps nothing and samples tokens that are all new."""

    def __init__(self, running: int, cells: int) -> None:
        super().__init__(cells, running + _CACHED_SLOTS, running, 4096)
        self.decoding_limit = 256
        self.now = 0.0
        self._token = 1_000_000

    def apply(self, op: CacheOp) -> None:
        pass

    def decode(self, items: tuple[BatchItem, ...]) -> None:  # noqa: ARG002 - of the interface
        self.now += 0.02

    def sample(self, item: BatchItem, draft: int = 0) -> SampledToken:  # noqa: ARG002 - of the interface
        self._token += 1
        return SampledToken(self._token)


def _prompt(number: int, most: int) -> tuple[int, ...]:
    """All begin alike, as prompts with one system message do."""
    ids = (*range(PROMPT // 2), *range(1000 + number * PROMPT, 1000 + number * PROMPT + PROMPT // 2))
    return tuple(_FIRST_ID + token % most for token in ids)


def _core(running: int, prefixes: int, tokens: int) -> EngineCore:
    """Return an engine core with N prefixes in its cache, and no running sequence."""
    runner = _Runner(running, 2 * (prefixes + 2 * running) * (PROMPT + tokens))
    core = EngineCore(
        runner,
        TokenBudgetPolicy(1e9, 65536),
        speculation=SpeculativeController(runner.stop_ids),
        clock=lambda: runner.now,
    )
    for number in range(prefixes):
        _submit(core, number, 1)
        if number % running == running - 1:
            _drain(core)
    _drain(core)
    return core


def _submit(core: EngineCore, number: int, tokens: int, first: int = 0, most: int = 10**9) -> None:
    """Submit a request; ``most`` is how many tokens the vocabulary has for its prompt."""
    params = SamplingParams(max_tokens=tokens, temperature=0.0, ignore_eos=True)
    core.submit(Submit(first + number, _prompt(number, most), params, caller=str(number % 8)))


def _drain(core: EngineCore) -> None:
    while core.has_work:
        core.step()


def _measured(running: int, prefixes: int, tokens: int) -> tuple[float, float]:
    """Return the microseconds of a request's admission and of a generated token."""
    core = _core(running, prefixes, tokens)
    started = time.process_time()
    for number in range(running):
        _submit(core, number, tokens, first=10**9)
    core.step()
    admitted = time.process_time()
    before = core.stats.generated_tokens
    _drain(core)
    token = (time.process_time() - admitted) / (core.stats.generated_tokens - before)
    return 1e6 * (admitted - started) / running, 1e6 * token


class Stopwatch:
    """Seconds that are spent within llama.cpp."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Time the functions of ``_TIMED``."""
        with ExitStack() as stack:
            for place, name in _TIMED:
                stack.enter_context(patch.object(place, name, self._timed(getattr(place, name))))
            yield

    def _timed(self, function: Callable[P, R]) -> Callable[P, R]:
        def timed(*args: P.args, **kwargs: P.kwargs) -> R:
            started = time.perf_counter()
            result = function(*args, **kwargs)
            self.seconds += time.perf_counter() - started
            return result

        return timed


def outside(model: Path, running: int, tokens: int) -> list[tuple[float, float]]:
    """Return the milliseconds of each decoding step of N streams, and the share of them outside llama.cpp."""
    watch, steps = Stopwatch(), []
    config = EngineConfig(model, context_length=PROMPT + tokens, parallel=running, device=Device.CPU)
    with watch.running():
        runner = LlamaModelRunner(config, check_gguf(model))
        core = EngineCore(runner, TokenBudgetPolicy(1e9, config.batch_size))  # all of them run soon
        for number in range(running):
            _submit(core, number, tokens, most=_ORDINARY)
        while core.has_work:
            before, started = watch.seconds, time.perf_counter()
            report = core.step()
            step = time.perf_counter() - started
            if len(report.outputs) > 0.9 * min(running, runner.decoding_limit):
                steps.append((1e3 * step, 100 * (1 - (watch.seconds - before) / step)))
        runner.close()
    return steps


def _with_model(model: Path, streams: list[int], tokens: int) -> None:
    route_log()
    print("| streams | ms of a step | % of it outside llama.cpp |\n|---|---|---|")
    for running in streams:
        steps = outside(model, running, tokens)
        milliseconds, shares = (sorted(column) for column in zip(*steps, strict=True))
        tenth = len(steps) // 10
        middles = (spread([statistics.median(each), each[tenth], each[-1 - tenth]]) for each in (milliseconds, shares))
        print(f"| {running} | {' | '.join(middles)} |", flush=True)


def _alone(prefixes: list[int], tokens: int) -> None:
    print("| cached prefixes | sequences | µs for an admission | µs for a token | µs for a step |")
    print("|---|---|---|---|---|")
    for cached in prefixes:
        for running in RUNNING:
            runs = [_measured(running, cached, tokens) for _ in range(_RUNS)]
            admission, token = (min(figures) for figures in zip(*runs, strict=True))
            print(f"| {cached} | {running} | {admission:.0f} | {token:.1f} | {token * running:.0f} |", flush=True)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=50)
    parser.add_argument("--prefixes", type=int, nargs="*", default=[0, 1000, 10_000])
    parser.add_argument("--model", type=Path, help="a model to generate with")
    parser.add_argument("--streams", type=int, nargs="+", default=RUNNING, help="of the model")
    options = parser.parse_args()
    if options.model:
        _with_model(options.model, options.streams, options.tokens)
    else:
        _alone(options.prefixes, options.tokens)


if __name__ == "__main__":
    main()
