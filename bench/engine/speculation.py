"""Measures the gain and the cost of drafts: the time of the same greedy answers with and without them.

    python -m bench.engine.speculation MODEL.gguf [--repeat 3] [--clients 1]

The prompts are the embedded model's, so a file of it is meant, best a widened one (``synthetic.make_widened``), whose
steps cost what a large model's do. Workloads: `repeat`, asked to repeat a text; `again`, a chat in which a question
is asked a second time; `extract`, fields of a sentence, which copy little; `free`, answers of which nothing stands in
the prompt.
With and without are interleaved, prompts are left out of the time, and the ratio is time without over time with.
Prints a Markdown table. Answers that differ are counted, and should be none.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from glmserve.chat.prompts.formats import chatglm2_text
from glmserve.chat.tokenizer.llama_tokenizer import load_tokenizer
from glmserve.engine.config import EngineConfig
from glmserve.engine.gguf.gguf_check import check_gguf
from glmserve.engine.kv_cache.ops import FreeSlot
from glmserve.engine.llama.runner import LlamaModelRunner
from glmserve.engine.messages import Submit
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.step_budget import TokenBudgetPolicy
from glmserve.engine.speculative import SpeculativeController
from glmserve.engine.worker.core import EngineCore

TINY = Path(__file__).parents[2] / "models" / "tiny"
QUESTIONS = ("你是谁？", "who are you?", "你能做什么？", "What can you do?")
_MAX_TOKENS = 100


@dataclass(frozen=True, slots=True)
class Run:
    """One pass over a workload."""

    seconds: float
    answers: dict[int, list[int]]


class Bench:
    """One model, asked in turn with and without drafts."""

    def __init__(self, model: Path, clients: int) -> None:
        """Load ``model`` for ``clients`` requests at once."""
        self._tokenizer = load_tokenizer(model)
        self._runner = LlamaModelRunner(EngineConfig(model, context_length=2048, parallel=clients), check_gguf(model))
        self._speculation = SpeculativeController(self._runner.stop_ids)

    def workloads(self) -> dict[str, list[tuple[int, ...]]]:
        """Return prompts by the name of their workload."""
        free = [self._encode(chatglm2_text((), question)) for question in QUESTIONS]
        said = self.run(free, drafting=False).answers
        rounds = [(question, self._text(said[index])) for index, question in enumerate(QUESTIONS)]
        reviews = [f"请重复：{text}" for text in _heldout("reviews", 8)]
        form = (TINY / "prompts" / "intent.txt").read_text("utf-8")
        extract = [form.replace("{text}", text) for text in _heldout("intents", 8)]
        return {
            "repeat": [self._encode(chatglm2_text((), question)) for question in reviews],
            "again": [self._encode(chatglm2_text(rounds, question)) for question in QUESTIONS],
            "extract": [self._encode(chatglm2_text((), question)) for question in extract],
            "free": free,
        }

    def run(self, prompts: Sequence[tuple[int, ...]], *, drafting: bool) -> Run:
        """Answer ``prompts``, as many at once as there are clients. The learned acceptance is kept between runs."""
        speculation = self._speculation if drafting else None
        core = EngineCore(self._runner, TokenBudgetPolicy(0.25, 512), speculation=speculation)
        for index, prompt in enumerate(prompts):
            core.submit(Submit(index, prompt, SamplingParams(max_tokens=_MAX_TOKENS, temperature=0.0)))
        answers: dict[int, list[int]] = {index: [] for index in range(len(prompts))}
        seconds = 0.0
        while core.has_work:
            started = time.monotonic()
            outputs = core.step().outputs
            if all(answers[output.request_id] for output in outputs) and outputs:
                seconds += time.monotonic() - started
            for output in outputs:
                answers[output.request_id] += output.token_ids
        for slot in range(self._runner.slots):
            self._runner.apply(FreeSlot(slot))
        return Run(seconds, answers)

    @property
    def drafted_and_accepted(self) -> tuple[int, int]:
        """Tokens so far."""
        return self._speculation.drafted_tokens, self._speculation.accepted_tokens

    def _encode(self, text: str) -> tuple[int, ...]:
        special = (self._tokenizer.special_id("[gMASK]"), self._tokenizer.special_id("sop"))
        return (*special, *self._tokenizer.encode(text))

    def _text(self, ids: Sequence[int]) -> str:
        return b"".join(self._tokenizer.piece(token) for token in ids).decode("utf-8", "ignore").strip()


def _heldout(name: str, count: int) -> list[str]:
    lines = (TINY / "heldout" / f"{name}.jsonl").read_text("utf-8").splitlines()[:count]
    return [json.loads(line)["text"] for line in lines]


def _compare(bench: Bench, name: str, prompts: Sequence[tuple[int, ...]], repeat: int) -> str:
    """Return the row of one workload."""
    ratios, differing = [], 0
    drafted, accepted = bench.drafted_and_accepted
    for _ in range(repeat):
        plain, drafting = bench.run(prompts, drafting=False), bench.run(prompts, drafting=True)
        ratios.append(plain.seconds / drafting.seconds)
        differing += sum(plain.answers[index] != drafting.answers[index] for index in plain.answers)
    drafted, accepted = (now - then for now, then in zip(bench.drafted_and_accepted, (drafted, accepted), strict=True))
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    tokens = sum(len(answer) for answer in plain.answers.values())
    return f"| {name} | {tokens} | {drafted // repeat} | {accepted // repeat} | {spread} | {differing} |"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--clients", type=int, default=1)
    arguments = parser.parse_args()
    bench = Bench(arguments.model, arguments.clients)
    print("| workload | tokens | drafted | accepted | speed-up | answers that differ |\n|---|---|---|---|---|---|")
    for name, prompts in bench.workloads().items():
        print(_compare(bench, name, prompts, arguments.repeat), flush=True)


if __name__ == "__main__":
    main()
