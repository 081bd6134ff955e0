"""Measures the cost of the scheduler's own Python for a generated token, with and without speculation.

    python -m bench.engine.step_calls [--tokens 1000]

No model is loaded: the model runner is a script, so that nothing but this server's Python is counted and timed. Three
kinds of answers: `new`, in which no three tokens stand twice, so nothing is ever drafted; `broken`, in which every
fourth token breaks what the prompt makes expect, so that there is a match but drafts never pay; `copied`, a copy.
Calls are those of functions of the engine, comprehensions and generators included. Microseconds are of CPU time: the
least of nine runs, with and without speculation in turn, without a profiler. The step's duration that speculation
learns from is that of two cores: 1 + 0.55 for each further token.
"""

import argparse
import sys
import time
from types import CodeType, FrameType

from glmserve import engine
from glmserve.engine.kv_cache.ops import CacheOp
from glmserve.engine.messages import SampledToken, Submit
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.batch import BatchItem
from glmserve.engine.scheduler.step_budget import TokenBudgetPolicy
from glmserve.engine.speculative import SpeculativeController
from glmserve.engine.worker.core import EngineCore
from tests.support.scripted_runner import Rule, ScriptedRunner

_PROMPT = tuple(range(1, 11)) * 10
_RUNS = 9


def _new(tokens: list[int]) -> int:
    return 1000 + len(tokens)


def _broken(tokens: list[int]) -> int:
    return tokens[-10] if len(tokens) % 4 else 1000 + len(tokens)


def _copied(tokens: list[int]) -> int:
    return tokens[-10]


class _Runner(ScriptedRunner):
    """A model runner that costs next to nothing: it keeps no cells, only the time that its steps would take."""

    def __init__(self, rule: Rule, clients: int, tokens: int) -> None:
        length = len(_PROMPT) + tokens
        super().__init__(length * clients, clients + 4, clients, length, rule)
        self.decoding_limit = 256
        self.now = 0.0

    def apply(self, op: CacheOp) -> None:
        pass

    def decode(self, items: tuple[BatchItem, ...]) -> None:
        self.now += 1.0 + 0.55 * (sum(len(item.tokens) + len(item.drafts) for item in items) - 1)

    def sample(self, item: BatchItem, draft: int = 0) -> SampledToken:
        tokens = item.sequence.tokens
        return SampledToken(self.rule([*tokens, *item.drafts[:draft]] if draft else tokens))


class _Counter:
    """Counts calls of functions below ``glmserve`` by their code."""

    def __init__(self) -> None:
        self.calls: dict[CodeType, int] = {}

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            self.calls[frame.f_code] = self.calls.get(frame.f_code, 0) + 1

    def own(self, part: str = "") -> int:
        """Return the calls of functions whose file lies in ``part`` of the engine."""
        root = f"{engine.__path__[0]}/{part}"
        return sum(count for code, count in self.calls.items() if code.co_filename.startswith(root))


def _core(rule: Rule, clients: int, tokens: int, *, speculation: bool) -> EngineCore:
    """Return an engine core all of whose requests generate."""
    runner = _Runner(rule, clients, tokens)
    drafts = SpeculativeController(runner.stop_ids) if speculation else None
    core = EngineCore(runner, TokenBudgetPolicy(1e9, 512), speculation=drafts, clock=lambda: runner.now)
    for request_id in range(clients):
        params = SamplingParams(max_tokens=tokens, temperature=0.0, ignore_eos=True)
        core.submit(Submit(request_id, _PROMPT, params, caller=str(request_id)))
    while core.stats.generated_tokens < clients:
        core.step()
    return core


def _drain(core: EngineCore) -> None:
    while core.has_work:
        core.step()


def _calls(rule: Rule, clients: int, tokens: int, *, speculation: bool) -> tuple[float, float]:
    """Return the calls of the engine for a token, and the part of them in ``speculative.py``."""
    counter, core = _Counter(), _core(rule, clients, tokens, speculation=speculation)
    sys.setprofile(counter)
    _drain(core)
    sys.setprofile(None)
    return counter.own() / (clients * tokens), counter.own("speculative.py") / (clients * tokens)


def _microseconds(rule: Rule, clients: int, tokens: int) -> dict[bool, float]:
    """Return CPU time for a token with and without speculation, which are run in turn."""
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(_RUNS):
        for speculation, times in seconds.items():
            core = _core(rule, clients, tokens, speculation=speculation)
            started = time.process_time()
            _drain(core)
            times.append(time.process_time() - started)
    return {speculation: 1e6 * min(times) / (clients * tokens) for speculation, times in seconds.items()}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=1000)
    tokens = parser.parse_args().tokens
    print("| answer | clients | calls, on | of these in speculative.py | calls, off | µs, on | µs, off |")
    print("|---|---|---|---|---|---|---|")
    for rule in (_new, _broken, _copied):
        for clients in (1, 8):
            (calls, own), (plain, _) = (_calls(rule, clients, tokens, speculation=on) for on in (True, False))
            times, name = _microseconds(rule, clients, tokens), rule.__name__.strip("_")
            figures = " | ".join(f"{figure:.1f}" for figure in (calls, own, plain, times[True], times[False]))
            print(f"| {name} | {clients} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
