"""What the official client can ask of sampling, on a real server."""

import math

import pytest
from openai import BadRequestError, OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "你好"}]


@pytest.fixture
def client(server_url: str) -> OpenAI:
    return OpenAI(base_url=f"{server_url}/v1", api_key="none", max_retries=0)


def _ask(client: OpenAI, **settings: object) -> ChatCompletion:
    return client.chat.completions.create(
        **{"model": "chatglm2-tiny", "messages": HELLO, "temperature": 0, "max_tokens": 30, **settings}
    )


def test_greedy_answers_are_made_of_the_likeliest_tokens(client: OpenAI) -> None:
    reply = _ask(client, logprobs=True, top_logprobs=3)
    tokens = reply.choices[0].logprobs.content
    assert b"".join(bytes(token.bytes) for token in tokens).decode() == reply.choices[0].message.content
    assert len(tokens) == reply.usage.completion_tokens
    for token in tokens:
        assert (token.token, token.logprob) == (token.top_logprobs[0].token, token.top_logprobs[0].logprob)
        assert sum(math.exp(rival.logprob) for rival in token.top_logprobs) <= 1 + 1e-6


def test_a_seed_repeats_all_of_n_answers_which_differ_and_share_a_prompt(client: OpenAI) -> None:
    settings = {"n": 4, "seed": 11, "temperature": 1.0, "max_tokens": 6}
    first, second = _ask(client, **settings), _ask(client, **settings)
    texts = [choice.message.content for choice in first.choices]
    assert texts == [choice.message.content for choice in second.choices]
    assert len(set(texts)) > 1
    alone = _ask(client, **{**settings, "n": 1})
    assert alone.choices[0].message.content == texts[0]
    assert first.usage.prompt_tokens == alone.usage.prompt_tokens
    assert second.usage.prompt_tokens_details.cached_tokens == first.usage.prompt_tokens - 1


def test_a_bias_on_a_token_that_there_is_not_is_refused(client: OpenAI) -> None:
    with pytest.raises(BadRequestError, match="999999 is no token of this model") as refused:
        _ask(client, logit_bias={"999999": 1})
    assert refused.value.param == "logit_bias"
