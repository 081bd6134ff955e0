"""Drafts on the real engine: the answers of the embedded model are the same with and without them."""

import json
from pathlib import Path

import pytest

from glmserve.chat.prompts.formats import prompt_format
from glmserve.chat.prompts.messages import Message, Role
from glmserve.chat.tokenizer.llama_tokenizer import load_tokenizer
from glmserve.engine.config import EngineConfig
from glmserve.engine.gguf.gguf_check import check_gguf
from glmserve.engine.llama.runner import LlamaModelRunner
from glmserve.engine.messages import EngineStats, Submit
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.step_budget import TokenBudgetPolicy
from glmserve.engine.sequence import Sequence
from glmserve.engine.speculative import NgramMatch, SpeculativeController, _Proposal
from glmserve.engine.worker.core import EngineCore

SURE = (1, 2, 3, 6, 7, 9, 11, 12)
"""Texts in whose greedy answers each token is ahead of the next best by 1.2 or more, so that every kernel finds it.

Those that are drawn stay as they are where the model's sums are off by a thousandth.
"""
TINY = Path(__file__).resolve().parents[2] / "models" / "tiny"


def _prompts(path: Path) -> list[tuple[int, ...]]:
    """Extraction: half of what is answered stands in the examples of the prompt."""
    form = (TINY / "prompts" / "intent.txt").read_text("utf-8")
    lines = (TINY / "heldout" / "intents.jsonl").read_text("utf-8").splitlines()
    texts = [form.replace("{text}", json.loads(lines[number])["text"]) for number in SURE]
    tokenizer = load_tokenizer(path)
    return [prompt_format("chatglm2").encode([Message(Role.USER, text)], tokenizer) for text in texts]


class _AlwaysWorthIt(SpeculativeController):
    """Drafts whatever it finds, so that the test does not hang on what this machine is doing just now."""

    def _drafts(
        self, found: list[tuple[int, NgramMatch, Sequence]], sequences: int, room: int, seconds: float
    ) -> dict[int, tuple[int, ...]]:
        drafts = {}
        for _, match, sequence in found:
            most = min(8, room, sequence.max_tokens - sequence.num_generated_tokens - 1)
            drafts[sequence.request_id] = self._before_stop(sequence, match.start, most)
            room -= len(drafts[sequence.request_id])
        self._proposal = _Proposal(sum(map(len, drafts.values())), 1.0, 1.0)
        return drafts


def _answers(path: Path, drafting: bool, temperature: float) -> tuple[dict[int, list[int]], EngineStats]:
    runner = LlamaModelRunner(EngineConfig(path, context_length=1024, parallel=1, threads=1), check_gguf(path))
    speculation = _AlwaysWorthIt(runner.stop_ids) if drafting else None
    core = EngineCore(runner, TokenBudgetPolicy(0.25, 512), speculation=speculation)
    params = SamplingParams(max_tokens=80, temperature=temperature, seed=7)
    for request_id, prompt in enumerate(_prompts(path)):
        assert core.submit(Submit(request_id, prompt, params)) is None
    answers: dict[int, list[int]] = {}
    while core.has_work:
        for output in core.step().outputs:
            answers.setdefault(output.request_id, []).extend(output.token_ids)
        core.check_integrity()
    runner.close()
    return answers, core.stats


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_drafts_change_no_token_of_an_answer(exact_gguf: Path, temperature: float) -> None:
    plain, _ = _answers(exact_gguf, drafting=False, temperature=temperature)
    drafted, stats = _answers(exact_gguf, drafting=True, temperature=temperature)
    assert stats.accepted_tokens > 40
    assert drafted == plain
