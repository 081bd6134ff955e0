"""logprobs, top_logprobs and logit_bias of chat completions, through the official client and as raw bodies."""

import httpx
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam

from tests.support.scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]


async def test_every_token_is_listed_with_its_bytes_and_rivals(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    engine.reply = lambda _: "好ok"
    reply = await openai.chat.completions.create(
        model="chatglm2-tiny", messages=HELLO, logprobs=True, top_logprobs=2, stop=["k"]
    )
    (choice,) = reply.choices
    assert choice.logprobs is not None
    tokens = choice.logprobs.content
    assert choice.message.content == "好o"
    assert tokens is not None
    assert bytes(byte for token in tokens for byte in token.bytes or ()).decode() == "好o"
    assert tokens[-1].logprob == pytest.approx(-(3 + ord("o")) / 100)
    assert [rival.token for rival in tokens[-1].top_logprobs] == ["p", "q"]


async def test_logprobs_alone_list_no_rivals_and_without_them_there_is_null(http: httpx.AsyncClient) -> None:
    alone = (await http.post("/v1/chat/completions", json={"messages": HELLO, "logprobs": True})).json()
    assert {len(token["top_logprobs"]) for token in alone["choices"][0]["logprobs"]["content"]} == {0}
    for body in ({}, {"logprobs": False}, {"logprobs": None, "top_logprobs": 0}):
        reply = (await http.post("/v1/chat/completions", json={"messages": HELLO, **body})).json()
        assert reply["choices"][0]["logprobs"] is None


async def test_a_stream_carries_them_with_the_text(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    engine.reply, engine.per_step = lambda _: "你好 ok", 2
    stream = await openai.chat.completions.create(
        model="chatglm2-tiny", messages=HELLO, logprobs=True, top_logprobs=1, stream=True, n=2
    )
    texts, scored = ["", ""], [b"", b""]
    async for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            for token in (choice.logprobs and choice.logprobs.content) or ():
                scored[choice.index] += bytes(token.bytes or ())
                assert len(token.top_logprobs) == 1
            assert scored[choice.index].decode() == texts[choice.index]
    assert texts == ["你好 ok", "你好 ok"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": False, "top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": -1}, "top_logprobs"),
        ({"logprobs": 5}, "logprobs"),
        ({"logit_bias": {"a": 1}}, "logit_bias"),
        ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"logit_bias": {"99999999999999999999": 1}}, "logit_bias"),
        ({"logit_bias": {"5": 101}}, "logit_bias"),
        ({"logit_bias": {"5": True}}, "logit_bias"),
        ({"logit_bias": {"5": "x"}}, "logit_bias"),
        ({"logit_bias": [[5, 1]]}, "logit_bias"),
        ({"logit_bias": {str(i): 1 for i in range(5000)}}, "logit_bias"),
    ],
)
async def test_what_makes_no_sense_is_refused_by_name(
    http: httpx.AsyncClient, body: dict[str, object], param: str
) -> None:
    reply = await http.post("/v1/chat/completions", json={"messages": HELLO, **body})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param


async def test_biases_reach_the_engine(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    for wire, expected in (({"5": -100, "17": 0.5}, ((5, -100.0), (17, 0.5))), ({}, ()), ([], ()), (None, ())):
        reply = await http.post("/v1/chat/completions", json={"messages": HELLO, "logit_bias": wire})
        assert reply.status_code == 200
        assert engine.submissions[-1].params.logit_bias == expected
