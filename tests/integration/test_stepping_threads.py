"""Real steps with threads that come and go, as they do beside other programs."""

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from server.engine import stepping_threads
from server.engine.config import Device, EngineConfig
from server.engine.core import EngineCore
from server.engine.gguf_check import check_gguf
from server.engine.llama import LlamaBackend
from server.engine.messages import Submit
from server.engine.pacing import StepPacer
from server.engine.params import SamplingParams
from server.engine.placement import Placement
from server.engine.spare_cores import SMALL_ROWS, SpareCores

PROMPT = tuple(range(300, 340))


class Restless(SpareCores):
    """Changes its mind after every step."""

    seen: ClassVar[list[tuple[int, float, float]]] = []

    def observe(self, rows: int, seconds: float, cpu_seconds: float) -> None:
        self.seen.append((rows, seconds, cpu_seconds))
        self.spared = 1 - self.spared


def answer(model: Path) -> list[int]:
    config = EngineConfig(model, context_length=1024, parallel=4, device=Device.CPU)
    backend = LlamaBackend(config, check_gguf(model))
    core = EngineCore(backend, StepPacer(0.25, 512))
    core.submit(Submit(1, PROMPT, SamplingParams(max_tokens=100, temperature=0.0, ignore_eos=True)))
    tokens = [token for _ in range(101) if core.has_work for out in core.step().outputs for token in out.token_ids]
    backend.close()
    return tokens


@pytest.mark.parametrize("threads", [2, 1])
def test_an_answer_is_the_same_whatever_threads_its_steps_have(
    tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    """A machine with one core gets two threads here, and one thread is what it can spare."""
    steady = answer(tiny_gguf)
    settle = stepping_threads.SteppingThreads.__init__

    def unsettled(self: stepping_threads.SteppingThreads, context: object, placement: Placement) -> None:
        settle(self, context, replace(placement, threads=threads, threads_vary=True))

    monkeypatch.setattr(stepping_threads.SteppingThreads, "__init__", unsettled)
    monkeypatch.setattr(stepping_threads, "SpareCores", Restless)
    Restless.seen.clear()
    assert answer(tiny_gguf) == steady
    assert len(steady) == 100
    assert [rows for rows, _, _ in Restless.seen] == [1] * 99, "the prompt's step is not a small one"
    assert all(seconds > 0 and cpu_seconds >= 0 for _, seconds, cpu_seconds in Restless.seen)
    assert len(PROMPT) > SMALL_ROWS
