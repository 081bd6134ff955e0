"""How fast one stream is while another program uses the cores, with all threads and with one thread per free core.

python -m bench.engine.crowded_cores MODEL.gguf

The other program computes for a share of each 20 ms and sleeps for the rest; there is one of it. Both ways are measured
in turn, each time with a model that is loaded anew.
"""

import argparse
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.tables import spread
from glmserve.engine.config import Device, EngineConfig
from glmserve.engine.gguf.gguf_check import check_gguf
from glmserve.engine.llama.cpu_topology import find_cores
from glmserve.engine.llama.runner import LlamaModelRunner
from glmserve.engine.messages import Submit
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.step_budget import TokenBudgetPolicy
from glmserve.engine.worker.core import EngineCore

TOKENS = 150
SHARES = (0.0, 0.2, 0.5, 1.0)
_PERIOD = 0.02
_PROMPT = tuple(range(300, 340))


def keep_busy(share: float) -> None:
    """Compute for ``share`` of the time, for ever."""
    while True:
        until = time.perf_counter() + share * _PERIOD
        while time.perf_counter() < until:
            pass
        if share < 1:
            time.sleep((1 - share) * _PERIOD)


@contextmanager
def crowd(share: float) -> Iterator[None]:
    """Have another program for a while."""
    other = multiprocessing.get_context("spawn").Process(target=keep_busy, args=(share,), daemon=True)
    if share:
        other.start()
    try:
        yield
    finally:
        if share:
            other.kill()
            other.join()


def rate(model: Path, threads: int) -> float:
    """Return the tokens a second of one stream after its first token; ``threads`` of 0: one per free core."""
    config = EngineConfig(model, context_length=1024, parallel=1, device=Device.CPU, threads=threads)
    runner = LlamaModelRunner(config, check_gguf(model))
    core = EngineCore(runner, TokenBudgetPolicy(0.25, 512))
    core.submit(Submit(1, _PROMPT, SamplingParams(max_tokens=TOKENS + 1, temperature=0.0, ignore_eos=True)))
    core.step()
    started = time.perf_counter()
    while core.has_work:
        core.step()
    seconds = time.perf_counter() - started
    runner.close()
    return TOKENS / seconds


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    ways = (find_cores().physical, 0)
    print("| the other program | all threads | those that have a core |\n|---|---|---|")
    for share in SHARES:
        rates: dict[int, list[float]] = {threads: [] for threads in ways}
        for _ in range(arguments.repeat):
            for threads in ways:
                with crowd(share):
                    rates[threads].append(rate(arguments.model, threads))
        print(f"| {share:.0%} of a core | {' | '.join(spread(rates[threads], 1) for threads in ways)} |", flush=True)


if __name__ == "__main__":
    main()
