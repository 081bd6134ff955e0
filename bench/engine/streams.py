"""Rates of several streams by how their steps are made: ``python -m bench.engine.streams MODEL.gguf [--repeat 3]``.

The same prompts and answers are computed as usual, with all answers in each step, and as ``--deterministic`` computes
them. The ways take turns, each time with a model that is loaded anew. Answers are timed from when all have begun until
the first one ends.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bench.tables import markdown, spread
from glmserve.engine.config import Device, EngineConfig
from glmserve.engine.gguf.gguf_check import check_gguf
from glmserve.engine.llama.runner import LlamaModelRunner
from glmserve.engine.messages import Submit
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.step_budget import StepBudget, TokenBudgetPolicy
from glmserve.engine.worker.core import EngineCore

_ANSWER = 160
USUAL, ALL_AT_ONCE, DETERMINISTIC = "as usual", "all in each step", "deterministic"
WAYS = (USUAL, ALL_AT_ONCE, DETERMINISTIC)


@dataclass(frozen=True, slots=True)
class Rates:
    """Tokens a second of all streams together."""

    prompt: float
    answer: float


class _AllAtOnce(TokenBudgetPolicy):
    def step_budget(self, decoding: int) -> StepBudget:
        return replace(super().step_budget(decoding), at_once=decoding)


def measure(model: Path, streams: int, prompt: int, way: str) -> Rates:
    """Load the model, and compute ``streams`` prompts of their own of ``prompt`` tokens, and their answers."""
    config = EngineConfig(model, context_length=prompt + _ANSWER, parallel=streams, device=Device.CPU)
    runner = LlamaModelRunner(config, check_gguf(model))
    kind = _AllAtOnce if way == ALL_AT_ONCE else TokenBudgetPolicy
    policy = kind(config.step_seconds, config.batch_size, runner.attention_tile)
    core = EngineCore(runner, policy, deterministic=way == DETERMINISTIC)
    for number in range(streams):
        ids = tuple(100 + (number * 61 + i * 7919) % 150 for i in range(prompt))
        core.submit(Submit(number, ids, SamplingParams(_ANSWER, temperature=0.0, ignore_eos=True)))
    started = time.perf_counter()
    answering: set[int] = set()
    while len(answering) < streams:
        answering |= {output.request_id for output in core.step().outputs}
    between = time.perf_counter()
    tokens, ended = 0, False
    while not ended:
        outputs = core.step().outputs
        tokens += len(outputs)
        ended = any(output.finish_reason for output in outputs)
    seconds = time.perf_counter() - between
    runner.close()
    return Rates(streams * prompt / (between - started), tokens / seconds)


def rows(model: Path, options: argparse.Namespace) -> Iterator[list[str]]:
    """Yield the rows of the table."""
    for streams in options.streams:
        found: dict[str, list[Rates]] = {way: [] for way in options.way}
        for _ in range(options.repeat):
            for way, rates in found.items():
                rates.append(measure(model, streams, options.prompt, way))
        first = found[options.way[0]]
        for way, rates in found.items():
            pairs = list(zip(first, rates, strict=True))
            yield [
                str(streams),
                way,
                spread([each.prompt for each in rates], 1),
                spread([each.prompt / base.prompt for base, each in pairs]),
                spread([each.answer for each in rates], 1),
                spread([each.answer / base.answer for base, each in pairs]),
            ]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--prompt", type=int, default=160, help="tokens of each prompt")
    parser.add_argument("--way", nargs="+", choices=WAYS, default=WAYS, help="ratios are to the first one")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    head = ("streams", "steps", "prompt tokens/s", "ratio", "generated tokens/s", "ratio")
    print(markdown(head, list(rows(options.model, options))))


if __name__ == "__main__":
    main()
