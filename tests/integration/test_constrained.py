"""Answers that follow a grammar, from the real engine on the embedded model."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import jsonschema_rs
import pytest
from typing_extensions import Unpack

from glmserve.chat.prompts.formats import prompt_format
from glmserve.chat.prompts.messages import Message, Role
from glmserve.chat.tokenizer.llama_tokenizer import LlamaTokenizer, load_tokenizer
from glmserve.engine.client.client import EngineClient
from glmserve.engine.config import Device, EngineConfig
from glmserve.engine.errors import GrammarFailed, GrammarRejected
from glmserve.engine.interface import Caller
from glmserve.engine.messages import FinishReason
from glmserve.engine.params import Grammar, GrammarKind, SamplingParams
from tests.support.changes import SamplingChanges
from tests.support.hostile_grammars import HOSTILE, schema_grammar

pytestmark = pytest.mark.anyio

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["红", "green", 3, None]}, "maxItems": 3},
        "mail": {"anyOf": [{"type": "null"}, {"type": "string", "pattern": "^[a-z]{1,5}@[a-z]{1,5}$"}]},
    },
    "required": ["name", "age", "tags", "mail"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def tokenizer(tiny_gguf: Path) -> LlamaTokenizer:
    return load_tokenizer(tiny_gguf)


@pytest.fixture(scope="module")
async def engine(tiny_gguf: Path) -> AsyncIterator[EngineClient]:
    engine = EngineClient(EngineConfig(tiny_gguf, context_length=1024, parallel=8, device=Device.CPU))
    await engine.start()
    await engine.wait_ready(60)
    yield engine
    await engine.stop()


async def _answer(
    engine: EngineClient, tokenizer: LlamaTokenizer, grammar: Grammar | None, **changes: Unpack[SamplingChanges]
) -> tuple[str, FinishReason | None]:
    prompt = prompt_format("chatglm2").encode([Message(Role.USER, "讲一个故事")], tokenizer)
    params = replace(SamplingParams(max_tokens=400, grammar=grammar), **changes)
    ids: list[int] = []
    async for output in await engine.submit(prompt, params):
        ids += output.token_ids
    return b"".join(map(tokenizer.piece, ids)).decode(), output.finish_reason


async def test_every_answer_to_a_schema_is_an_instance_of_it(engine: EngineClient, tokenizer: LlamaTokenizer) -> None:
    """Greedy, hot, with penalties, several at once, beside one that is free."""
    settings: list[SamplingChanges] = [{"temperature": t, "seed": seed} for t in (0.0, 0.7, 2.0) for seed in (1, 2)]
    settings += [{"repetition_penalty": 2.0, "top_k": 3}, {"presence_penalty": 2.0, "top_p": 0.1, "min_p": 0.2}]
    free = asyncio.create_task(_answer(engine, tokenizer, None, temperature=0.0, max_tokens=30))
    answers = await asyncio.gather(*(_answer(engine, tokenizer, schema_grammar(PERSON), **one) for one in settings))
    validator = jsonschema_rs.validator_for(PERSON)
    for text, reason in answers:
        assert reason is FinishReason.STOP
        validator.validate(json.loads(text))
    assert await free == await _answer(engine, tokenizer, None, temperature=0.0, max_tokens=30)


async def test_an_answer_to_a_regular_expression_or_a_choice_matches_it(
    engine: EngineClient, tokenizer: LlamaTokenizer
) -> None:
    for pattern in (r"[a-c]{3,7}(\d{2})?", "一|二三|two words", r"\d{4}-\d{2}-\d{2}", "是"):
        for seed in (1, 2, 3):
            text, reason = await _answer(engine, tokenizer, Grammar(GrammarKind.REGEX, pattern), seed=seed)
            assert re.fullmatch(pattern, text), (pattern, text)
            assert reason is FinishReason.STOP


async def test_lark_grammars_may_embed_schemas(engine: EngineClient, tokenizer: LlamaTokenizer) -> None:
    args = '{"type": "array", "maxItems": 2, "items": {"type": "integer"}}'
    source = f'start: "call " name " " args "!"\nname: "a" | "b"\nargs: %json {args}'
    for seed in (1, 2, 3):
        text, reason = await _answer(engine, tokenizer, Grammar(GrammarKind.LARK, source), seed=seed, max_tokens=100)
        matched = re.fullmatch(r"call [ab] (\[.*\])!", text, re.DOTALL)
        if reason is FinishReason.STOP:
            assert matched, text
            assert len(json.loads(matched[1])) <= 2


@pytest.mark.parametrize("held_back", [{"ignore_eos": True}, {"min_tokens": 50}, {"min_tokens": 50, "logprobs": 2}])
async def test_a_complete_answer_ends_though_its_end_is_held_back(
    engine: EngineClient, tokenizer: LlamaTokenizer, held_back: SamplingChanges
) -> None:
    text, reason = await _answer(engine, tokenizer, Grammar(GrammarKind.REGEX, "abc"), **held_back)
    assert (text, reason) == ("abc", FinishReason.STOP)


async def test_white_space_does_not_go_on_for_ever(engine: EngineClient, tokenizer: LlamaTokenizer) -> None:
    """A model that likes nothing better than blanks, held to a JSON object."""
    blank = next(i for i in range(1664) if tokenizer.piece(i) == b" ")
    likes_blanks: SamplingChanges = {"logit_bias": ((blank, 100.0),), "max_tokens": 60, "temperature": 0.0}
    text, _ = await _answer(engine, tokenizer, schema_grammar({"type": "object"}), **likes_blanks)
    assert not re.search(r"\s{14}", text.split('"')[0])


async def test_what_cannot_be_used_is_refused_in_time_and_the_engine_lives(
    engine: EngineClient, tokenizer: LlamaTokenizer
) -> None:
    pid = engine.pid
    for name, grammar in HOSTILE.items():
        started = time.monotonic()
        with pytest.raises(GrammarRejected) as refused:
            await _answer(engine, tokenizer, grammar, max_tokens=5)
        assert time.monotonic() - started < 20, name
        assert len(str(refused.value)) < 500, name
        assert "\n" not in str(refused.value), name
    assert engine.pid == pid
    text, _ = await _answer(engine, tokenizer, Grammar(GrammarKind.REGEX, "fine"))
    assert text == "fine"


async def test_a_refusal_names_the_part(engine: EngineClient, tokenizer: LlamaTokenizer) -> None:
    for name, part in (("not unique", "uniqueItems"), ("not a type", "thing"), ("no such rule", "missing")):
        with pytest.raises(GrammarRejected, match=part):
            await _answer(engine, tokenizer, HOSTILE[name])


async def test_an_ambiguous_grammar_ends_its_own_answer_alone(engine: EngineClient, tokenizer: LlamaTokenizer) -> None:
    """It passed the check, and each token of it made the steps of everybody longer: 53 ms became 1,734 ms."""
    source = 'start: e\ne: e e e | e e | "a" | "b" | ""'
    endless: SamplingChanges = {"ignore_eos": True, "max_tokens": 900, "seed": 1}
    free = asyncio.create_task(_answer(engine, tokenizer, None, temperature=0.0, max_tokens=300, ignore_eos=True))
    started = time.monotonic()
    with pytest.raises((GrammarFailed, GrammarRejected), match="too ambiguous"):
        await _answer(engine, tokenizer, Grammar(GrammarKind.LARK, source), **endless)
    assert time.monotonic() - started < 20
    text, reason = await free
    assert reason is FinishReason.LENGTH
    assert text


async def test_hostile_grammars_of_one_caller_do_not_keep_another_waiting(
    engine: EngineClient, tokenizer: LlamaTokenizer
) -> None:
    """24 of one kept ``[ab]{5}`` of another waiting for over 200 s."""
    prompt = prompt_format("chatglm2").encode([Message(Role.USER, "?")], tokenizer)

    async def ask(source: str, caller: str) -> None:
        params = SamplingParams(max_tokens=8, grammar=Grammar(GrammarKind.REGEX, source))
        async for _ in await engine.submit(prompt, params, "", Caller(caller)):
            pass

    hostile = [asyncio.create_task(ask(f"(a{{1000}}){{{1000 + i}}}", "hostile")) for i in range(24)]
    await asyncio.sleep(0.1)
    started = time.monotonic()
    await ask("[ab]{5}", "other")
    assert time.monotonic() - started < 12
    assert not all(task.done() for task in hostile)
    for task in hostile:
        task.cancel()
    ended = await asyncio.gather(*hostile, return_exceptions=True)
    assert all(isinstance(one, (asyncio.CancelledError, GrammarRejected)) for one in ended), ended


async def test_large_grammars_are_refused_without_being_kept(engine: EngineClient, tokenizer: LlamaTokenizer) -> None:
    """The verdicts of 41 of them held 320 MB."""
    started = time.monotonic()
    for number in range(41):
        with pytest.raises(GrammarRejected, match="bytes"):
            await _answer(engine, tokenizer, Grammar(GrammarKind.REGEX, f"{number}" + "a" * 8_000_000))
    assert time.monotonic() - started < 3
    assert engine._checker is not None
    assert sum(map(len, engine._checker._verdicts)) < 1_000_000
