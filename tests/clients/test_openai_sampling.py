"""What the official client can ask of sampling, on a real server."""

import json
import math
import re
from typing import Annotated, Literal

import pytest
from openai import BadRequestError, OpenAI, Stream
from openai.types import CompletionUsage
from openai.types.chat import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionMessageParam,
    ChatCompletionTokenLogprob,
)
from pydantic import BaseModel, Field

MODEL = "chatglm2-tiny"
BRIEF = {"temperature": 0, "max_tokens": 30}
HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "你好"}]


@pytest.fixture
def client(server_url: str) -> OpenAI:
    return OpenAI(base_url=f"{server_url}/v1", api_key="none", max_retries=0)


def _ask(client: OpenAI, **fields: object) -> ChatCompletion:
    return client.chat.completions.create(model=MODEL, messages=HELLO, extra_body={**BRIEF, **fields})


def _stream(client: OpenAI, **fields: object) -> Stream[ChatCompletionChunk]:
    return client.chat.completions.create(model=MODEL, messages=HELLO, stream=True, extra_body={**BRIEF, **fields})


def _usage(reply: ChatCompletion) -> CompletionUsage:
    assert reply.usage is not None
    return reply.usage


def _tokens(reply: ChatCompletion) -> list[ChatCompletionTokenLogprob]:
    assert reply.choices[0].logprobs is not None
    return reply.choices[0].logprobs.content or []


def test_greedy_answers_are_made_of_the_likeliest_tokens(client: OpenAI) -> None:
    reply = _ask(client, logprobs=True, top_logprobs=3)
    tokens = _tokens(reply)
    assert b"".join(bytes(token.bytes or ()) for token in tokens).decode() == reply.choices[0].message.content
    assert len(tokens) == _usage(reply).completion_tokens
    for token in tokens:
        assert (token.token, token.logprob) == (token.top_logprobs[0].token, token.top_logprobs[0].logprob)
        assert sum(math.exp(rival.logprob) for rival in token.top_logprobs) <= 1 + 1e-6


def test_a_seed_repeats_all_of_n_answers_which_differ_and_share_a_prompt(client: OpenAI) -> None:
    # Of a prompt that is worth a copy: an idle server computes a request with a seed on emptied cells.
    long = [{"role": "user", "content": "你好，" * 40}]
    settings = {"messages": long, "n": 4, "seed": 11, "temperature": 1.0, "max_tokens": 6}
    first, second = _ask(client, **settings), _ask(client, **settings)
    texts = [choice.message.content for choice in first.choices]
    assert texts == [choice.message.content for choice in second.choices]
    assert len(set(texts)) > 1
    alone = _ask(client, **{**settings, "n": 1})
    assert alone.choices[0].message.content == texts[0]
    assert _usage(first).prompt_tokens == _usage(alone).prompt_tokens
    details = _usage(second).prompt_tokens_details
    assert details is not None
    assert details.cached_tokens == (_usage(first).prompt_tokens - 1) // 48 * 48, "all whole chunks"


def test_a_bias_on_a_token_that_there_is_not_is_refused(client: OpenAI) -> None:
    with pytest.raises(BadRequestError, match="999999 is not a token id of this model") as refused:
        _ask(client, logit_bias={"999999": 1})
    assert refused.value.param == "logit_bias"


class Person(BaseModel):
    """Everything in it is short: a tiny model fills a string, or a list, for as long as it may."""

    name: Annotated[str, Field(max_length=10)]
    age: Annotated[int, Field(ge=0, le=150)]
    tags: Annotated[list[Literal["a", "b"]], Field(max_length=2)]


def test_parsed_answers_are_instances_of_a_pydantic_model(client: OpenAI) -> None:
    reply = client.chat.completions.parse(
        model="chatglm2-tiny", messages=HELLO, response_format=Person, max_tokens=800, temperature=0
    )
    assert isinstance(reply.choices[0].message.parsed, Person)


def test_a_json_object_is_streamed(client: OpenAI) -> None:
    stream = _stream(client, response_format={"type": "json_object"}, max_tokens=800)
    chunks = [chunk.choices[0] for chunk in stream]
    text = "".join(choice.delta.content or "" for choice in chunks)
    if chunks[-1].finish_reason == "stop":
        assert isinstance(json.loads(text), dict)
    assert text.startswith("{")


def test_structured_outputs_as_vllm_spells_them(client: OpenAI) -> None:
    def asked(**one: object) -> str:
        return _ask(client, structured_outputs=one).choices[0].message.content or ""

    assert asked(choice=["是", "不是"]) in ("是", "不是")
    assert re.fullmatch(r"\d{3}", asked(regex=r"\d{3}"))
    assert asked(grammar='start: "ab" | "cd"') in ("ab", "cd")


def test_a_schema_that_cannot_be_kept_to_is_refused_with_the_part_that_cannot(client: OpenAI) -> None:
    schema = {"name": "x", "schema": {"type": "array", "uniqueItems": True}, "strict": True}
    for ask in (_ask, _stream):
        with pytest.raises(BadRequestError, match="uniqueItems") as refused:
            ask(client, response_format={"type": "json_schema", "json_schema": schema})
        assert refused.value.code == "unsupported_grammar"


def test_a_constrained_answer_has_logprobs_of_the_free_model_too(client: OpenAI) -> None:
    reply = _ask(client, logprobs=True, top_logprobs=1, structured_outputs={"regex": "[xyz]{4}"})
    tokens = _tokens(reply)
    assert "".join(token.token for token in tokens) == reply.choices[0].message.content
    assert any(token.top_logprobs[0].token != token.token for token in tokens)
