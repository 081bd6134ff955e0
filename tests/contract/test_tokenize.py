"""Tokens of a text and the text of tokens, as vLLM's clients and lm-eval's remote tokenizer ask for them."""

import httpx
import pytest

from tests.support.api import MODEL
from tests.support.scripted_engine import ByteTokenizer

pytestmark = pytest.mark.anyio

IDS = ByteTokenizer().encode("你 [gMASK]")


async def post(http: httpx.AsyncClient, path: str, **body: object) -> dict[str, object]:
    reply = await http.post(path, json=body)
    assert reply.status_code == 200, reply.text
    told: dict[str, object] = reply.json()
    return told


async def test_a_text_has_the_tokens_that_a_completion_of_it_has(http: httpx.AsyncClient) -> None:
    reply = await post(http, "/tokenize", model=MODEL, prompt="你 [gMASK]")
    tokens = [300, 301, *IDS]
    assert reply == {"count": len(tokens), "max_model_len": 4096, "tokens": tokens, "token_strs": None}


async def test_the_special_tokens_can_be_left_out(http: httpx.AsyncClient) -> None:
    """What lm-eval sends."""
    assert (await post(http, "/tokenize", prompt="你 [gMASK]", add_special_tokens=False))["tokens"] == list(IDS)


async def test_llama_servers_spelling_is_taken(http: httpx.AsyncClient) -> None:
    assert (await post(http, "/tokenize", content="你 [gMASK]"))["tokens"] == list(IDS)
    assert (await post(http, "/tokenize", content="a", add_special=True))["count"] == 4


async def test_a_conversation_has_the_tokens_of_its_prompt(http: httpx.AsyncClient) -> None:
    messages = [{"role": "user", "content": "hi"}]
    tokens = (await post(http, "/tokenize", model=MODEL, messages=messages, add_generation_prompt=True))["tokens"]
    assert tokens == [300, 301, *ByteTokenizer().encode("[Round 1]\n\n问：hi\n\n答：")]


async def test_tokens_have_names(http: httpx.AsyncClient) -> None:
    reply = await post(http, "/tokenize", prompt="a", return_token_strs=True)
    assert reply["token_strs"] == ["[gMASK]", "sop", " ", "a"]


async def test_there_and_back(http: httpx.AsyncClient) -> None:
    assert await post(http, "/detokenize", model=MODEL, tokens=[300, 301, *IDS]) == {"prompt": "你 [gMASK]"}
    assert await post(http, "/detokenize", tokens=[]) == {"prompt": ""}


async def test_the_probe_of_lm_eval_finds_what_it_looks_for(http: httpx.AsyncClient) -> None:
    assert (await http.get("/tokenizer_info")).json()["eos_token"] is None


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "a", "content": "a"}, "prompt"),
        ("/tokenize", {"prompt": ["a"]}, "prompt"),
        ("/tokenize", {"prompt": "a" * 20_000}, "prompt"),
        ("/tokenize", {"content": "a", "parse_special": True}, "parse_special"),
        ("/tokenize", {"messages": []}, "messages"),
        ("/tokenize", {"messages": [{"role": "user", "content": "a"}], "return_token_strs": 1}, "return_token_strs"),
        ("/detokenize", {"tokens": [512]}, "tokens"),
        ("/detokenize", {"tokens": [True]}, "tokens[0]"),
        ("/detokenize", {}, "tokens"),
    ],
)
async def test_bad_requests_are_refused_by_name(
    http: httpx.AsyncClient, path: str, body: dict[str, object], param: str
) -> None:
    reply = await http.post(path, json=body)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param
