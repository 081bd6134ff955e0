"""Text completions of the embedded model through the official client, scored as lm-eval scores."""

import httpx
import pytest
from openai import OpenAI


@pytest.fixture
def client(server_url: str) -> OpenAI:
    return OpenAI(base_url=f"{server_url}/v1", api_key="none")


@pytest.fixture
def model(client: OpenAI) -> str:
    return client.models.list().data[0].id


def tokenize(server_url: str, text: str) -> list[int]:
    reply = httpx.post(f"{server_url}/tokenize", json={"prompt": text}).json()
    tokens: list[int] = reply["tokens"]
    return tokens


def test_what_was_generated_scores_the_same_as_a_prompt(client: OpenAI, model: str, server_url: str) -> None:
    prompt = tokenize(server_url, "[Round 1]\n\n问：你好\n\n答：")
    written = client.completions.create(model=model, prompt=prompt, max_tokens=6, temperature=0, logprobs=1)
    generated = written.choices[0].logprobs
    assert generated is not None
    again = tokenize(server_url, "[Round 1]\n\n问：你好\n\n答：" + written.choices[0].text)
    assert again[: len(prompt)] == prompt
    scored = client.completions.create(model=model, prompt=again, max_tokens=0, echo=True, logprobs=1)
    echoed = scored.choices[0].logprobs
    assert echoed is not None
    assert echoed.token_logprobs is not None
    assert generated.token_logprobs is not None
    assert echoed.tokens is not None
    assert echoed.tokens[len(prompt) :] == generated.tokens
    assert echoed.token_logprobs[len(prompt) :] == pytest.approx(generated.token_logprobs, abs=0.05)
    assert echoed.top_logprobs is not None
    likeliest = [max(top.values()) for top in echoed.top_logprobs[len(prompt) :]]
    assert likeliest == echoed.token_logprobs[len(prompt) :], "greedy answers are made of the likeliest tokens"


def test_several_prompts_are_answered_as_each_alone(client: OpenAI, model: str) -> None:
    prompts = ["[Round 1]\n\n问：你好\n\n答：", "[Round 1]\n\n问：你是谁\n\n答："]
    alone = [client.completions.create(model=model, prompt=prompt, temperature=0).choices[0].text for prompt in prompts]
    together = client.completions.create(model=model, prompt=prompts, temperature=0)
    assert [choice.text for choice in together.choices] == alone


def test_a_text_survives_the_way_there_and_back(server_url: str) -> None:
    text = "Hello world,  [gMASK] </s> 你好\n"
    tokens = tokenize(server_url, text)
    assert httpx.post(f"{server_url}/detokenize", json={"tokens": tokens}).json() == {"prompt": text}
