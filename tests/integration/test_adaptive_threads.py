"""Real steps with threads that come and go, as they do beside other programs."""

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import llama_cpp
import pytest

from glmserve.engine.config import Device, EngineConfig
from glmserve.engine.gguf.gguf_check import check_gguf
from glmserve.engine.llama import threads as llama_threads
from glmserve.engine.llama.placement import Placement
from glmserve.engine.llama.runner import LlamaModelRunner
from glmserve.engine.llama.threads import MOST_ROWS, CpuContention
from glmserve.engine.messages import Submit
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.step_budget import TokenBudgetPolicy
from glmserve.engine.worker.core import EngineCore

PROMPT = tuple(range(300, 360))


class Restless(CpuContention):
    """Changes its mind after every step."""

    seen: ClassVar[list[tuple[int, int]]] = []
    context: ClassVar[object] = None

    def observe(self, threads: int, seconds: float, cpu_seconds: float) -> None:
        assert seconds > 0
        assert cpu_seconds >= 0
        self.seen.append((threads, llama_cpp.llama_n_threads(self.context)))
        self.spared = 1 - self.spared


def answer(model: Path) -> list[int]:
    config = EngineConfig(model, context_length=1024, parallel=4, device=Device.CPU)
    runner = LlamaModelRunner(config, check_gguf(model))
    core = EngineCore(runner, TokenBudgetPolicy(0.25, 512))
    core.submit(Submit(1, PROMPT, SamplingParams(max_tokens=100, temperature=0.0, ignore_eos=True)))
    tokens = [token for _ in range(101) if core.has_work for out in core.step().outputs for token in out.token_ids]
    runner.close()
    return tokens


@pytest.mark.parametrize(("threads", "seen"), [((2, 3), [2, 1] * 49 + [2]), ((1, 1), [1] * 99)])
def test_an_answer_is_the_same_whatever_threads_its_steps_have(
    tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch, threads: tuple[int, int], seen: list[int]
) -> None:
    steady = answer(tiny_gguf)
    take_over = llama_threads.AdaptiveThreads.__init__

    def unsettled(self: llama_threads.AdaptiveThreads, context: object, placement: Placement) -> None:
        varying = replace(placement, threads=threads[0], threads_batch=threads[1], threads_vary=True)
        take_over(self, context, varying)
        llama_cpp.llama_set_n_threads(context, *threads)
        Restless.context = context

    monkeypatch.setattr(llama_threads.AdaptiveThreads, "__init__", unsettled)
    monkeypatch.setattr(llama_threads, "CpuContention", Restless)
    Restless.seen.clear()
    assert answer(tiny_gguf) == steady
    assert len(steady) == 100
    assert [told for told, _ in Restless.seen] == seen, "the prompt's step, which has all threads, is not among them"
    assert [computed for _, computed in Restless.seen] == seen, "llama.cpp was told of each change"
    assert len(PROMPT) > MOST_ROWS
