"""Recurrent and hybrid models, and sliding windows: each answer is that of a plain loop over llama_decode."""

import asyncio
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import httpx
import pytest

from glmserve.cli.trial import self_test
from glmserve.engine.client.client import EngineClient
from glmserve.engine.config import ComputeMode, Device, EngineConfig
from glmserve.engine.errors import ModelLoadError
from glmserve.engine.gguf.gguf_check import check_gguf
from glmserve.engine.kv_cache.manager import AFTER_CHECKPOINT
from glmserve.engine.llama.runner import LlamaModelRunner
from glmserve.engine.messages import Pin, PrefixScope, Submit
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.step_budget import TokenBudgetPolicy
from glmserve.engine.worker.core import EngineCore
from tests.conftest import running_server
from tests.support.faults import VARIABLE, load_faulty
from tests.support.gguf_file import Entry
from tests.support.greedy import greedy_answers
from tests.support.llama_sources import template, vocabulary, with_template
from tests.support.random_models import ARCHITECTURES, MORE_ARCHITECTURES, WINDOW, random_model
from tests.support.stepping import drain, tokens_of

RUNNING = ("mamba", "lfm2", "qwen35")
COUNT = 16
PROMPTS = [tuple(1 + (n * 37 + i * i * (n + 3)) % 30000 for i in range(90 + n)) for n in range(8)]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    file = with_template(vocabulary("phi-3"), template("microsoft-Phi-3.5-mini-instruct"))
    return random_model(file, request.param).write(folder / f"{request.param}.gguf")


@cache
def compute_mode(model: Path) -> ComputeMode:
    """Return the first mode that is right here: llama.cpp's AMX kernels confuse the sequences of some of the models."""
    trial = self_test(EngineConfig(model, device=Device.CPU, threads=1))
    assert not trial.fault
    return trial.mode


@contextmanager
def engine(model: Path, idle_cells: int = 4000, state_dir: Path | None = None) -> Iterator[EngineCore]:
    mode = compute_mode(model)
    config = EngineConfig(model, 512, 4, device=Device.CPU, threads=1, state_dir=state_dir, compute_mode=mode)
    runner = LlamaModelRunner(config, check_gguf(model))
    runner.self_test()
    yield EngineCore(runner, TokenBudgetPolicy(1e9, 64), idle_cells=idle_cells)
    runner.close()


def ask(core: EngineCore, *prompts: tuple[int, ...], common: int = 0) -> list[tuple[list[int], int]]:
    """Ask all at once; return the answers, and how much of each prompt was cached."""
    params = SamplingParams(max_tokens=COUNT, temperature=0.0, ignore_eos=True)
    for number, prompt in enumerate(prompts):
        core.submit(Submit(number, prompt, params, scope=PrefixScope(common=common)))
    outputs = drain(core)
    return [(tokens_of(outputs[n]), outputs[n][0].cached_tokens) for n in range(len(prompts))]


def check(answers: list[tuple[list[int], int]], expected: list[list[int]]) -> None:
    for (tokens, _), right in zip(answers, expected, strict=True):
        assert tokens[: len(right)] == right


def test_answers_are_those_of_a_plain_loop_alone_together_and_again(model: Path) -> None:
    expected = greedy_answers(model, PROMPTS, COUNT)
    assert sum(map(len, expected)) > 30
    with engine(model) as core:
        check(ask(core, PROMPTS[0]), expected[:1])
        check(ask(core, *PROMPTS), expected)
        again = ask(core, *reversed(PROMPTS))
        check(again, expected[::-1])
        assert all(cached == 82 + n for (_, cached), n in zip(again, reversed(range(8)), strict=True))


@pytest.mark.parametrize("architecture", MORE_ARCHITECTURES)
def test_other_architectures_answer_as_a_plain_loop_does(architecture: str, tmp_path: Path) -> None:
    model = random_model(vocabulary("phi-3"), architecture).write(tmp_path / "m.gguf")
    expected = greedy_answers(model, PROMPTS[:4], COUNT)
    assert sum(map(len, expected)) > 15
    with engine(model) as core:
        check(ask(core, *PROMPTS[:4]), expected)
        again = ask(core, *reversed(PROMPTS[:4]))
    check(again, expected[::-1])
    assert all(cached == 82 + n for (_, cached), n in zip(again, reversed(range(4)), strict=True))


def test_a_chat_that_goes_on_and_one_that_branches_start_from_what_is_cached(model: Path) -> None:
    with engine(model) as core:
        ((first, _),) = ask(core, PROMPTS[0])
        goes_on = (*PROMPTS[0], *first, *PROMPTS[1][:20])
        branches = (*PROMPTS[0][:-3], *PROMPTS[2][:20])
        cached = ask(core, goes_on, branches)
    check(cached, greedy_answers(model, [goes_on, branches], COUNT))
    assert [n for _, n in cached] == [len(PROMPTS[0]) + COUNT - 1, len(PROMPTS[0]) - AFTER_CHECKPOINT]


def test_a_state_that_was_offloaded_answers_as_before(model: Path) -> None:
    """Also where only its middle fits, which must not be taken: the cells before a window are gone."""
    halves = [(*prompt[: WINDOW + 8], *PROMPTS[0][:4]) for prompt in PROMPTS[1:4]]
    expected = greedy_answers(model, [*halves, *PROMPTS[1:4]], COUNT)
    with engine(model, idle_cells=0) as core:
        ask(core, *PROMPTS[1:5])
        assert core.stats.tokens_parked > 0
        check(ask(core, *halves), expected[:3])
        again = ask(core, *PROMPTS[1:4])
    check(again, expected[3:])
    assert all(cached > 80 for _, cached in again)


def test_a_system_message_and_a_pinned_prefix_are_shared_and_come_back_from_the_disk(
    model: Path, tmp_path: Path
) -> None:
    shared = PROMPTS[5]
    asked = [(*shared, *PROMPTS[n][:20]) for n in range(3)]
    expected = greedy_answers(model, asked, COUNT)
    with engine(model) as core:
        ask(core, asked[0], common=len(shared))
        answers = ask(core, *asked, common=len(shared))
    check(answers, expected)
    assert [cached for _, cached in answers][1:] == [len(shared)] * 2
    with engine(model) as core:
        core.pin(Pin(shared))
        answers = ask(core, *asked)
    check(answers, expected)
    assert [cached for _, cached in answers] == [len(shared)] * 3


def _number(key: str, value: int) -> Entry:
    return Entry.scalar(key, 4, value)


def _sections(*values: int) -> Entry:
    return Entry.array("qwen35.rope.dimension_sections", 5, [struct.pack("<i", value) for value in values])


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (_number("qwen35.ssm.inner_size", 48), "impossible shape (a state of 48 values in 2 heads of 16)"),
        (_number("qwen35.full_attention_interval", 0), "full_attention_interval is 0"),
        (
            Entry.text("qwen35.rope.scaling.type", b""),
            "rope.scaling.type is '', not one of none, linear",
        ),
        (_sections(0, 0, 0, 0), "rope.dimension_sections is [0, 0, 0, 0], with 16 dimensions"),
        (_sections(1 << 20, 2, 2, 0), "rope.dimension_sections is [1048576, 2, 2, 0]"),
        (_sections(-1, 2, 2, 0), "rope.dimension_sections is [-1, 2, 2, 0]"),
    ],
)
def test_figures_over_which_llama_cpp_would_abort_are_rejected(tmp_path: Path, entry: Entry, told: str) -> None:
    path = random_model(vocabulary("phi-3"), "qwen35").put(entry).write(tmp_path / "m.gguf")
    with pytest.raises(ModelLoadError, match=re.escape(told)):
        check_gguf(path)


def test_heads_that_a_kernel_would_read_past_are_rejected(tmp_path: Path) -> None:
    """With AVX-512, llama.cpp computed RWKV-7 in pieces of 64 values, and the answers were no numbers."""
    path = random_model(vocabulary("phi-3"), "rwkv7").put(_number("rwkv7.wkv.head_size", 32)).write(tmp_path / "m.gguf")
    with pytest.raises(ModelLoadError, match="heads of 32 values, which must be a multiple of 64"):
        check_gguf(path)


@pytest.mark.parametrize(
    ("architecture", "kv_bytes", "state_bytes"),
    [("mamba", 0, 19456), ("lfm2", 128, 512), ("qwen35", 128, 5120 + 1280), ("gemma3", 256, 0)],
)
def test_the_memory_of_a_model_is_known_from_its_file(
    tmp_path: Path, architecture: str, kv_bytes: int, state_bytes: int
) -> None:
    facts = check_gguf(random_model(vocabulary("phi-3"), architecture).write(tmp_path / "m.gguf"))
    assert (facts.kv_bytes_per_token, facts.state_bytes) == (kv_bytes, state_bytes)


def test_a_context_of_fewer_tokens_than_slots_is_possible(tmp_path: Path) -> None:
    """llama.cpp aborts over it where there are no keys and values."""
    path = random_model(vocabulary("phi-3"), "mamba").put(_number("mamba.context_length", 3)).write(tmp_path / "m.gguf")
    config = EngineConfig(path, parallel=2, device=Device.CPU, threads=1, compute_mode=ComputeMode.NO_EXTRA_BUFFERS)
    runner = LlamaModelRunner(config, check_gguf(path))
    runner.self_test()
    runner.close()


def test_memory_that_has_no_way_back_says_so(model: Path) -> None:
    config = EngineConfig(model, 512, 2, device=Device.CPU, threads=1, compute_mode=compute_mode(model))
    runner = LlamaModelRunner(config, check_gguf(model))
    assert not runner.cache_traits.cuts
    assert runner.cache_traits.undoes == (model.stem not in RUNNING)
    runner.close()


@pytest.mark.parametrize("architecture", ["mamba", "qwen35"])
async def test_an_answer_goes_on_in_the_next_process(
    tmp_path: Path, architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_model(vocabulary("phi-3"), architecture).write(tmp_path / "m.gguf")
    expected = greedy_answers(model, PROMPTS, COUNT)
    prompt, right = max(zip(PROMPTS, expected, strict=True), key=lambda pair: len(pair[1]))
    assert len(right) > 8
    (tmp_path / "plan").write_text("decode:7=kill")  # the first two compute the prompt, up to its checkpoint and after
    monkeypatch.setenv(VARIABLE, f"once {tmp_path / 'plan'}")
    mode = compute_mode(model)  # found before, as only the first process has the plan
    config = EngineConfig(model, 512, 2, device=Device.CPU, threads=1, restart_wait=60.0, compute_mode=mode)
    client = EngineClient(config, load_faulty)
    await client.start()
    try:
        await client.wait_ready(60)
        tokens = await answered(client, prompt)
        assert client.restarts_total == 1
    finally:
        await client.stop()
    assert len(tokens) == COUNT
    assert tokens[: len(right)] == right


def test_a_chat_is_served_with_its_template(tmp_path: Path) -> None:
    file = with_template(vocabulary("phi-3"), template("microsoft-Phi-3.5-mini-instruct"))
    path = random_model(file, "lfm2").write(tmp_path / "m.gguf")
    body = {"max_tokens": 8, "temperature": 0, "messages": [{"role": "user", "content": "天气怎么样？" * 20}]}
    options = ("--device", "cpu", "--parallel", "2", "--context", "512")
    with running_server(str(path), *options, log=tmp_path / "log") as (url, _):
        path_of_chat = f"{url}/v1/chat/completions"
        first = httpx.post(path_of_chat, json=body, timeout=60).json()
        again = httpx.post(path_of_chat, json=body, timeout=60).json()
        streamed = httpx.post(path_of_chat, json={**body, "stream": True}, timeout=60).text
    assert first["usage"]["completion_tokens"] > 0
    used = again["usage"]
    assert used["prompt_tokens_details"]["cached_tokens"] == used["prompt_tokens"] - AFTER_CHECKPOINT
    assert streamed.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("architecture", RUNNING)
async def test_answers_at_once_are_those_of_a_plain_loop_in_any_process(tmp_path: Path, architecture: str) -> None:
    """On a CPU with AMX, the engine process died of this or mixed the answers up."""
    model = random_model(vocabulary("phi-3"), architecture).write(tmp_path / "m.gguf")
    expected = greedy_answers(model, PROMPTS[:4], COUNT)
    client = EngineClient(EngineConfig(model, 512, 4, device=Device.CPU, threads=1))
    await client.start()
    try:
        await client.wait_ready(60)
        found = await asyncio.gather(*(answered(client, prompt) for prompt in PROMPTS[:4]))
        assert client.restarts_total == 0
    finally:
        await client.stop()
    check([(tokens, 0) for tokens in found], expected)


async def answered(client: EngineClient, prompt: tuple[int, ...]) -> list[int]:
    params = SamplingParams(max_tokens=COUNT, temperature=0.0, ignore_eos=True)
    outputs = [output async for output in await client.submit(prompt, params)]
    return [token for output in outputs for token in output.token_ids]
