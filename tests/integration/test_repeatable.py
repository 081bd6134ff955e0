"""The same seed, the same answer, to the last bit of its log-probabilities, with real llama.cpp."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from glmserve.chat.prompts.formats import prompt_format
from glmserve.chat.prompts.messages import Message, Role
from glmserve.chat.tokenizer.llama_tokenizer import LlamaTokenizer, load_tokenizer
from glmserve.engine.config import Device, EngineConfig
from glmserve.engine.gguf.gguf_check import check_gguf
from glmserve.engine.llama.runner import LlamaModelRunner
from glmserve.engine.messages import SampledToken, StepOutput, Submit
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.batch import TokenBudgetPolicy
from glmserve.engine.speculative import SpeculativeController
from glmserve.engine.worker.core import EngineCore

FORMAT = prompt_format("chatglm2")
LONG = "请记住：" + "".join(f"第{i}件事是去{i * 7 % 100}号楼买{i * 13 % 50}本书。" for i in range(36))
"""Some 600 tokens: beyond 512 cells, a single row is added up in parts."""
OTHERS = ("今天天气很好，我们去公园。" * 9, "你好", LONG[40:300], "明天妈妈过生日" * 5)

Answer = list[tuple[int, float | None]]


class Engine:
    """A core with answers by request."""

    def __init__(
        self, model: Path, tokenizer: LlamaTokenizer, *, threads: int = 2, deterministic: bool = False
    ) -> None:
        config = EngineConfig(
            model, context_length=1024, parallel=4, threads=threads, threads_batch=threads, device=Device.CPU
        )
        self.runner = LlamaModelRunner(config, check_gguf(model))
        speculation = SpeculativeController(self.runner.stop_ids)
        policy = TokenBudgetPolicy(0.25, 512, self.runner.attention_tile)
        self.core = EngineCore(self.runner, policy, speculation=speculation, deterministic=deterministic)
        self._tokenizer = tokenizer
        self._ids = iter(range(1000))
        self._outputs: list[StepOutput] = []

    def submit(self, text: str, seed: int | None = None, max_tokens: int = 10) -> int:
        ids = FORMAT.encode([Message(Role.USER, text)], self._tokenizer)
        request_id = next(self._ids)
        params = SamplingParams(max_tokens=max_tokens, temperature=1.0, seed=seed, logprobs=0, ignore_eos=True)
        self.core.submit(Submit(request_id, ids, params))
        return request_id

    def step(self) -> None:
        """Compute a step, as the worker does."""
        self._outputs += self.core.step().outputs

    def finish(self, request_id: int) -> tuple[Answer, bool]:
        """Step until there is no work; return the answer, and whether it was disturbed."""
        while self.core.has_work:
            self.step()
        mine = [output for output in self._outputs if output.request_id == request_id]
        tokens: list[SampledToken] = [token for output in mine for token in output.logprobs]
        return [(token.token_id, token.logprob) for token in tokens], mine[-1].disturbed


@pytest.fixture(scope="module")
def tokenizer(tiny_gguf: Path) -> LlamaTokenizer:
    return load_tokenizer(tiny_gguf)


@pytest.fixture(scope="module")
def alone(tiny_gguf: Path, tokenizer: LlamaTokenizer) -> Iterator[Answer]:
    """The answer of a fresh engine."""
    engine = Engine(tiny_gguf, tokenizer)
    yield engine.finish(engine.submit(LONG, seed=7))[0]
    engine.runner.close()


def test_a_seed_repeats_whatever_the_engine_did_before(
    tiny_gguf: Path, tokenizer: LlamaTokenizer, alone: Answer
) -> None:
    engine = Engine(tiny_gguf, tokenizer)
    for other in OTHERS:
        engine.finish(engine.submit(other))
        assert engine.finish(engine.submit(LONG, seed=7)) == (alone, False)
    engine.finish(engine.submit(LONG))  # in other pieces: no seeded answer may start from them
    assert engine.finish(engine.submit(LONG, seed=7)) == (alone, False)
    engine.runner.close()


def test_the_number_of_threads_does_not_matter(tiny_gguf: Path, tokenizer: LlamaTokenizer, alone: Answer) -> None:
    engine = Engine(tiny_gguf, tokenizer, threads=1)
    assert engine.finish(engine.submit(LONG, seed=7)) == (alone, False)
    engine.runner.close()


def test_a_deterministic_engine_repeats_beside_other_requests(
    tiny_gguf: Path, tokenizer: LlamaTokenizer, alone: Answer
) -> None:
    engine = Engine(tiny_gguf, tokenizer, deterministic=True)
    for started in range(3):
        for other in OTHERS[:started]:
            engine.submit(other, max_tokens=5 * started)
            engine.step()
        asked = engine.submit(LONG, seed=7)
        engine.step()
        engine.submit(OTHERS[3])
        answer, disturbed = engine.finish(asked)
        assert (answer, disturbed) == (alone, False)
    engine.runner.close()
