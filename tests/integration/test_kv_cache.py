"""What the KV cache holds, parks and rounds, with real llama.cpp on the embedded model."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from glmserve.chat.prompts.formats import prompt_format
from glmserve.chat.prompts.messages import Message, Role
from glmserve.chat.tokenizer.llama_tokenizer import LlamaTokenizer, load_tokenizer
from glmserve.engine.config import Adapter, Device, EngineConfig, KvType
from glmserve.engine.errors import ModelLoadError
from glmserve.engine.gguf.gguf_check import check_gguf
from glmserve.engine.llama.placement import place, probe
from glmserve.engine.llama.runner import LlamaModelRunner
from glmserve.engine.messages import StepOutput, Submit
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.step_budget import TokenBudgetPolicy
from glmserve.engine.worker.core import EngineCore

QUESTIONS = ("你好", "你是谁？", "谢谢", "明天妈妈过生日")


@pytest.fixture(scope="module")
def tokenizer(tiny_gguf: Path) -> LlamaTokenizer:
    return load_tokenizer(tiny_gguf)


def prompt(tokenizer: LlamaTokenizer, text: str) -> tuple[int, ...]:
    return prompt_format("chatglm2").encode([Message(Role.USER, text)], tokenizer)


@contextmanager
def engine(model: Path, kv_type: KvType, idle_cells: int) -> Iterator[EngineCore]:
    config = EngineConfig(model, context_length=1024, parallel=4, device=Device.CPU, kv_type=kv_type)
    runner = LlamaModelRunner(config, check_gguf(model))
    yield EngineCore(runner, TokenBudgetPolicy(1e9, 512), idle_cells=idle_cells)
    runner.close()


def run(core: EngineCore, *prompts: tuple[int, ...]) -> list[tuple[list[int], int]]:
    """Answers to ``prompts``, asked at once, and how much of each was cached."""
    for request_id, ids in enumerate(prompts):
        core.submit(Submit(request_id, ids, SamplingParams(max_tokens=24, temperature=0.0)))
    outputs: list[StepOutput] = []
    while core.has_work:
        outputs += core.step().outputs
        core.check_integrity()
    return [
        (
            [token for o in outputs if o.request_id == request_id for token in o.token_ids],
            max(o.cached_tokens for o in outputs if o.request_id == request_id),
        )
        for request_id in range(len(prompts))
    ]


@pytest.mark.parametrize("kv_type", list(KvType))
def test_a_prefix_that_was_parked_comes_back_as_it_was(
    tiny_gguf: Path, tokenizer: LlamaTokenizer, kv_type: KvType
) -> None:
    prompts = [prompt(tokenizer, question + "今天天气很好，我们去公园。" * 8) for question in QUESTIONS]
    with engine(tiny_gguf, kv_type, idle_cells=0) as core:
        first = [run(core, ids)[0][0] for ids in prompts]
        assert core.stats.tokens_parked > 0
        again = [run(core, ids)[0] for ids in reversed(prompts)][::-1]
    assert [ids for ids, _ in again] == first
    assert again[-1][1] == len(prompts[-1]) - 1


@pytest.mark.parametrize("kv_type", [KvType.Q8_0, KvType.Q4_0])
def test_a_quantised_cache_answers_alone_and_together_alike(
    tiny_gguf: Path, tokenizer: LlamaTokenizer, kv_type: KvType
) -> None:
    prompts = [prompt(tokenizer, question) for question in QUESTIONS]
    with engine(tiny_gguf, kv_type, idle_cells=0) as core:
        together = [ids for ids, _ in run(core, *prompts)]
        assert together == [run(core, ids)[0][0] for ids in prompts]


def test_a_cache_of_q8_0_says_what_one_of_f16_says(tiny_gguf: Path, tokenizer: LlamaTokenizer) -> None:
    prompts = [prompt(tokenizer, question) for question in QUESTIONS]
    answers = []
    for kv_type in (KvType.F16, KvType.Q8_0):
        with engine(tiny_gguf, kv_type, idle_cells=0) as core:
            answers.append([ids for ids, _ in run(core, *prompts)])
    assert answers[0] == answers[1]


def test_a_prefix_is_refused_with_a_quantised_cache_before_anything_is_loaded(tiny_gguf: Path) -> None:
    config = EngineConfig(tiny_gguf, device=Device.CPU, adapters=(Adapter("adgen", prefix=Path("no.gguf")),))
    with pytest.raises(ModelLoadError, match="the prefix of adgen needs --kv-type f16"):
        place(replace(config, kv_type=KvType.Q4_0), check_gguf(tiny_gguf), probe())


def test_256_requests_at_once_are_answered_though_one_slot_is_for_the_row_that_pads(
    tiny_gguf: Path, tokenizer: LlamaTokenizer
) -> None:
    config = EngineConfig(tiny_gguf, context_length=64, parallel=256, device=Device.CPU)
    runner = LlamaModelRunner(config, check_gguf(tiny_gguf))
    assert runner.slots < config.parallel
    core = EngineCore(runner, TokenBudgetPolicy(1e9, 512))
    for number in range(config.parallel):
        params = SamplingParams(max_tokens=2, temperature=0.0)
        core.submit(Submit(number, prompt(tokenizer, f"你好 {number}"), params))
    ended: list[int] = []
    while core.has_work:
        ended += [output.request_id for output in core.step().outputs if output.finish_reason]
    runner.close()
    assert sorted(ended) == list(range(config.parallel))


def _kilobytes_in_huge_pages() -> int:
    """Return the size of all mappings for which the kernel was asked for huge pages: "hg" in /proc/self/smaps."""
    size = total = 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        words = line.split()
        if words[0] == "Size:":
            size = int(words[1])
        elif words[0] == "VmFlags:" and "hg" in words:
            total += size
    return total


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="the kernel has no huge pages")
@pytest.mark.parametrize("is_long", [False, True])
def test_the_cells_of_long_contexts_alone_lie_in_huge_pages(
    tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch, is_long: bool
) -> None:
    context_length = 4096
    monkeypatch.setattr("glmserve.engine.llama.runner.LONG_CONTEXT", context_length + (not is_long))
    before = _kilobytes_in_huge_pages()
    config = EngineConfig(tiny_gguf, context_length=context_length, device=Device.CPU)
    runner = LlamaModelRunner(config, check_gguf(tiny_gguf))
    try:
        assert (_kilobytes_in_huge_pages() > before) == is_long
    finally:
        runner.close()
