"""Log-probabilities and biases from the real engine, against the logits that llama.cpp gives when asked directly."""

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typing_extensions import Unpack

from glmserve.chat.prompts.formats import prompt_format
from glmserve.chat.prompts.messages import Message, Role
from glmserve.chat.tokenizer.llama_tokenizer import LlamaTokenizer, load_tokenizer
from glmserve.engine.client.client import EngineClient
from glmserve.engine.config import Device, EngineConfig
from glmserve.engine.errors import UnknownToken
from glmserve.engine.messages import SampledToken, StepOutput
from glmserve.engine.params import SamplingParams
from tests.support.changes import SamplingChanges
from tests.support.native import logits_of

NOISE = 0.2
"""The engine keeps keys and values as f16 and computes pieces of other sizes; what ``score`` itself does is exact."""


@pytest.fixture(scope="module")
def tokenizer(tiny_gguf: Path) -> LlamaTokenizer:
    return load_tokenizer(tiny_gguf)


@pytest.fixture(scope="module")
async def engine(tiny_gguf: Path) -> AsyncIterator[EngineClient]:
    engine = EngineClient(EngineConfig(tiny_gguf, context_length=1024, parallel=4, device=Device.CPU))
    await engine.start()
    await engine.wait_ready(60)
    yield engine
    await engine.stop()


@pytest.fixture
def prompt(tokenizer: LlamaTokenizer) -> tuple[int, ...]:
    return prompt_format("chatglm2").encode([Message(Role.USER, "你好")], tokenizer)


async def _outputs(
    engine: EngineClient, prompt: tuple[int, ...], **changes: Unpack[SamplingChanges]
) -> list[StepOutput]:
    params = replace(SamplingParams(max_tokens=12, temperature=0.0), **changes)
    return [output async for output in await engine.submit(prompt, params)]


def _ids(outputs: list[StepOutput]) -> tuple[int, ...]:
    return tuple(token for output in outputs for token in output.token_ids)


def _scores(outputs: list[StepOutput]) -> list[SampledToken]:
    return [token for output in outputs for token in output.logprobs]


def _log_softmax(path: Path, ids: tuple[int, ...]) -> NDArray[np.float64]:
    logits = logits_of(path, [ids])[0].astype(np.float64)
    highest = logits.max(1, keepdims=True)
    scores: NDArray[np.float64] = logits - np.log(np.exp(logits - highest).sum(1, keepdims=True)) - highest
    return scores


def _close(tokens: list[SampledToken], scores: NDArray[np.float64]) -> None:
    for token, row in zip(tokens, scores, strict=True):
        expected = [row[token.token_id], *np.sort(row)[::-1][: len(token.top)]]
        told = [one.logprob for one in (token, *token.top) if one.logprob is not None]
        np.testing.assert_allclose(told, expected, rtol=0.05, atol=NOISE)
        assert sum(map(math.exp, told[1:])) <= 1 + 1e-6


@pytest.mark.parametrize("params", [{}, {"temperature": 1.5, "seed": 1, "repetition_penalty": 2.0, "top_k": 5}])
async def test_an_answer_is_scored_by_the_models_own_distribution(
    engine: EngineClient, tiny_gguf: Path, prompt: tuple[int, ...], params: SamplingChanges
) -> None:
    """Whatever it was sampled with: the reported distribution is the one before penalties and temperature."""
    scored: SamplingChanges = {**params, "logprobs": 5}
    outputs = await _outputs(engine, prompt, **scored)
    ids = _ids(outputs)
    assert tuple(token.token_id for token in _scores(outputs)) == ids
    expected = _log_softmax(tiny_gguf, prompt + ids)[len(prompt) - 1 : -1]
    _close(_scores(outputs), expected)
    if not params:
        assert all(token.top[0].token_id == token.token_id for token in _scores(outputs))


async def test_without_being_asked_for_nothing_is_scored_and_the_answer_is_the_same(
    engine: EngineClient, prompt: tuple[int, ...]
) -> None:
    plain, scored = await _outputs(engine, prompt), await _outputs(engine, prompt, logprobs=0)
    assert _ids(plain) == _ids(scored)
    assert not _scores(plain)
    assert all(token.top == () for token in _scores(scored))


async def test_a_prompt_is_scored_token_by_token_though_it_is_cached(
    engine: EngineClient, tiny_gguf: Path, tokenizer: LlamaTokenizer
) -> None:
    """Several pieces long, twice, and beside a stream and another one that is scored."""
    long = prompt_format("chatglm2").encode([Message(Role.USER, "明天妈妈过生日，" * 30)], tokenizer)
    assert len(long) > 128
    await _outputs(engine, long)
    runs = await asyncio.gather(
        _outputs(engine, long, prompt_logprobs=3, max_tokens=4),
        _outputs(engine, long, max_tokens=40, ignore_eos=True),
        _outputs(engine, long, prompt_logprobs=0, max_tokens=1),
    )
    expected = _log_softmax(tiny_gguf, long)
    for outputs, top in ((runs[0], 3), (runs[2], 0)):
        first, *rest = [token for output in outputs for token in output.prompt_logprobs]
        assert (first.token_id, first.logprob, first.top) == (long[0], None, ())
        assert tuple(token.token_id for token in rest) == long[1:]
        assert {len(token.top) for token in rest} == {top}
        _close(rest, expected[:-1])
        assert outputs[-1].cached_tokens == 0
    assert _ids(runs[0])[0] == _ids(runs[1])[0] == _ids(runs[2])[0]


async def test_a_bias_bans_or_forces_a_token_and_one_that_is_not_there_is_refused(
    engine: EngineClient, prompt: tuple[int, ...]
) -> None:
    plain = _ids(await _outputs(engine, prompt))
    assert plain[0] not in _ids(await _outputs(engine, prompt, logit_bias=((plain[0], -100.0),)))
    assert set(_ids(await _outputs(engine, prompt, logit_bias=((7, 100.0),)))) == {7}
    with pytest.raises(UnknownToken, match="1664 is not a token id"):
        await _outputs(engine, prompt, logit_bias=((1664, 100.0),))
