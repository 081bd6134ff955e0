"""LangChain: its OpenAI models, and the classes it has for the original ``api.py`` and for ChatGLM3's server."""

import math
import warnings

import httpx
import pytest
import tiktoken
import tiktoken.registry
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import SecretStr

from tests.clients.conftest import Deployment
from tests.support.langchain_chat import chat_openai

with warnings.catch_warnings():
    # The package announces its end at import.
    warnings.simplefilter("ignore")
    from langchain_community.llms import ChatGLM
    from langchain_community.llms.chatglm3 import ChatGLM3


@pytest.fixture
def chat(server_url: str) -> ChatOpenAI:
    return chat_openai(server_url, 40)


def test_chat_openai_answers_with_its_counts(chat: ChatOpenAI) -> None:
    reply = chat.invoke([SystemMessage("简短回答"), HumanMessage("你好"), AIMessage("你好！"), HumanMessage("再见")])
    assert reply.content
    assert reply.usage_metadata is not None
    assert reply.usage_metadata["output_tokens"] > 0
    assert reply.response_metadata["finish_reason"] in ("stop", "length")


def test_chat_openai_streams_with_its_counts(chat: ChatOpenAI) -> None:
    whole = chat.invoke("你好")
    chunks = list(chat.stream("你好", stream_usage=True))
    assert "".join(str(chunk.content) for chunk in chunks) == whole.content
    counts = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
    assert counts[-1]["input_tokens"] > 0


def test_chat_openai_takes_lists_of_parts(chat: ChatOpenAI) -> None:
    assert chat.invoke([HumanMessage([{"type": "text", "text": "你好"}])]).content


@pytest.mark.anyio
async def test_chat_openai_answers_many_at_once(chat: ChatOpenAI) -> None:
    replies = await chat.abatch(["你好"] * 4)
    assert len({reply.content for reply in replies}) == 1


@pytest.mark.parametrize("path", ["/chatglm", "/"])
def test_chatglm_answers(server_url: str, path: str) -> None:
    # max_token 20000 is the class's own default, and more than any context here.
    llm = ChatGLM(endpoint_url=server_url + path, history=[["你好"], ["我是李明", "你好，李明"]])
    assert llm.max_token == 20000
    assert llm.invoke("你是谁？")


@pytest.mark.parametrize("path", ["/chatglm", "/"])
def test_chatglm_keeps_the_history_that_comes_back(server_url: str, path: str) -> None:
    llm = ChatGLM(endpoint_url=server_url + path, with_history=True, model_kwargs={"sample_model_args": False})
    first = llm.invoke("你好")
    second = llm.invoke("再见")
    assert [round[0] for round in llm.history] == ["你好", "再见"]
    assert [round[1] for round in llm.history] == [first, second]


def test_chatglm_stops_where_it_is_told(server_url: str) -> None:
    llm = ChatGLM(endpoint_url=f"{server_url}/chatglm")
    assert "。" not in llm.invoke("你好", stop=["。"])


def test_chatglm3_answers_by_the_name_it_asks_for(server_url: str) -> None:
    # It sends no key, and max_tokens 20000.
    llm = ChatGLM3(endpoint_url=f"{server_url}/v1/chat/completions", prefix_messages=[AIMessage("我是小张")])
    assert (llm.model_name, llm.max_tokens) == ("chatglm3-6b", 20000)
    assert llm.invoke("你好")
    assert "。" not in llm.invoke("你好", stop=["。"])


def vectors_of(deployment: Deployment, *, check_embedding_ctx_length: bool = True) -> OpenAIEmbeddings:
    return OpenAIEmbeddings(
        model="bert",
        base_url=f"{deployment.url}/v1",
        api_key=SecretStr(deployment.key),
        check_embedding_ctx_length=check_embedding_ctx_length,
    )


def test_embeddings_of_texts(deployment: Deployment) -> None:
    embeddings = vectors_of(deployment, check_embedding_ctx_length=False)
    first, second = embeddings.embed_documents(["a cat", "a mat"])
    assert first == pytest.approx(embeddings.embed_query("a cat"), abs=1e-6)  # a batch adds up in another order
    assert math.hypot(*first) == pytest.approx(1)
    assert first != second


def test_embeddings_of_token_ids(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it sends unless told otherwise: the ids of a tokenizer of its own, here one that knows three letters."""
    known = tiktoken.Encoding(
        "cl100k_base", pat_str=".", mergeable_ranks={b"a": 4, b"b": 5, b"c": 6}, special_tokens={}
    )
    monkeypatch.setitem(tiktoken.registry.ENCODINGS, "cl100k_base", known)
    embeddings = vectors_of(deployment)
    first, second = embeddings.embed_documents(["abc", "ca"])
    same = httpx.post(
        f"{deployment.url}/v1/embeddings",
        json={"model": "bert", "input": [[4, 5, 6], [6, 4]]},
        headers={"Authorization": f"Bearer {deployment.key}"},
    ).json()
    assert [first, second] == [pytest.approx(item["embedding"], abs=1e-5) for item in same["data"]]
