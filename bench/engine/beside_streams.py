"""Cost of long prompts to streams and of streams to long prompts, in common steps and in turns.

python -m bench.engine.beside_streams MODEL.gguf

Four streams are running when four prompts of a thousand tokens come, each another. Both ways are measured in turn, each
time with a model that is loaded anew. A pause is of tokens; text waits longer where it takes several.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

from bench.tables import spread
from glmserve.engine.config import Device, EngineConfig
from glmserve.engine.gguf.gguf_check import check_gguf
from glmserve.engine.llama.runner import LlamaModelRunner
from glmserve.engine.messages import StepOutput, Submit
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.step_budget import TokenBudgetPolicy
from glmserve.engine.worker.core import EngineCore

STREAMS = 4
_STREAM = (140, 96)
"""Tokens of prompt and answer."""
_LONG = (1000, 16)
_IDS = 50_000
"""Token ids of prompts are below that, so that no two of them begin alike."""


@dataclass(frozen=True, slots=True)
class Run:
    """Result of one way."""

    seconds: float
    """Until all is answered, from when the long prompts came."""
    pause: float
    """The longest one between two tokens of a stream."""
    per_token: float
    """Seconds a token of a stream, from when the long prompts came."""


def submit(core: EngineCore, request_id: int, size: tuple[int, int]) -> None:
    """Submit a unique prompt."""
    prompt = tuple(1000 + (request_id * 61 + i * 7919) % (_IDS - 1000) for i in range(size[0]))
    core.submit(Submit(request_id, prompt, SamplingParams(max_tokens=size[1], temperature=0.0, ignore_eos=True)))


def drive(core: EngineCore) -> Run:
    """Drive ``core`` through the workload."""
    for request_id in range(STREAMS):
        submit(core, request_id, _STREAM)
    last: dict[int, float] = {}
    while len(last) < STREAMS:
        last.update({output.request_id: time.perf_counter() for output in core.step().outputs})
    for request_id in range(STREAMS, 2 * STREAMS):
        submit(core, request_id, _LONG)
    started = ended = time.perf_counter()
    pause, tokens = 0.0, 0
    while core.has_work:
        outputs = core.step().outputs
        now = time.perf_counter()
        for output in (output for output in outputs if output.request_id < STREAMS):
            pause = max(pause, now - last[output.request_id])
            last[output.request_id] = ended = now
            assert isinstance(output, StepOutput)
            tokens += len(output.token_ids)
    return Run(time.perf_counter() - started, pause, STREAMS * (ended - started) / tokens)


def measure(model: Path, *, in_turn: bool) -> Run:
    """Load the model and measure one way."""
    config = EngineConfig(model, context_length=2048, parallel=2 * STREAMS, device=Device.CPU)
    runner = LlamaModelRunner(config, check_gguf(model))
    tile = runner.attention_tile if in_turn else 0
    run = drive(EngineCore(runner, TokenBudgetPolicy(config.step_seconds, config.batch_size, tile)))
    runner.close()
    return run


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    runs: dict[bool, list[Run]] = {False: [], True: []}
    for _ in range(arguments.repeat):
        for in_turn, of in runs.items():
            of.append(measure(arguments.model, in_turn=in_turn))
    print("| | s until all is answered | longest pause, s | s a token of a stream |\n|---|---|---|---|")
    for in_turn, of in runs.items():
        figures = ([run.seconds for run in of], [run.pause for run in of], [run.per_token for run in of])
        print(f"| {'in turn' if in_turn else 'in common steps'} | {' | '.join(map(spread, figures))} |", flush=True)


if __name__ == "__main__":
    main()
