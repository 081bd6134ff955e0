"""Measures how the scheduler's own step grows with what runs and with what is cached.

    python -m bench.engine.scale [--tokens 50] [--prefixes 0 1000 10000]

No model is loaded: the model runner is a script that costs next to nothing. Microseconds are CPU time of the engine's
Python, the least of three runs: of a decoding step, for each of its tokens, and of the admission of a request whose
prompt has a cached beginning among that many others. A share of 3 % at 8 streams of a model means that its step takes
33 times as long as 8 tokens do here.
"""

import argparse
import time

from glmserve.engine.kv_cache.ops import CacheOp
from glmserve.engine.messages import SampledToken, Submit
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.batch import BatchItem, TokenBudgetPolicy
from glmserve.engine.speculative import SpeculativeController
from glmserve.engine.worker.core import EngineCore
from tests.support.scripted_backend import ScriptedBackend

RUNNING = (1, 8, 64, 256)
PROMPT = 64
_CACHED_SLOTS = 64
_RUNS = 3


class _Runner(ScriptedBackend):
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


def _prompt(number: int) -> tuple[int, ...]:
    """All begin alike, as prompts with one system message do."""
    return (*range(PROMPT // 2), *range(1000 + number * PROMPT, 1000 + number * PROMPT + PROMPT // 2))


def _core(running: int, prefixes: int, tokens: int) -> EngineCore:
    """Return an engine core with so many prefixes in its cache, and nothing that runs."""
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


def _submit(core: EngineCore, number: int, tokens: int, first: int = 0) -> None:
    params = SamplingParams(max_tokens=tokens, temperature=0.0, ignore_eos=True)
    core.submit(Submit(first + number, _prompt(number), params, caller=str(number % 8)))


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


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=50)
    parser.add_argument("--prefixes", type=int, nargs="*", default=[0, 1000, 10_000])
    options = parser.parse_args()
    print("| cached prefixes | sequences | µs for an admission | µs for a token | µs for a step |")
    print("|---|---|---|---|---|")
    for prefixes in options.prefixes:
        for running in RUNNING:
            runs = [_measured(running, prefixes, options.tokens) for _ in range(_RUNS)]
            admission, token = (min(figures) for figures in zip(*runs, strict=True))
            print(f"| {prefixes} | {running} | {admission:.0f} | {token:.1f} | {token * running:.0f} |", flush=True)


if __name__ == "__main__":
    main()
