"""LangChain: its OpenAI chat model, and the ChatGLM class that it has for the original ``api.py``."""

import warnings

import httpx
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI

with warnings.catch_warnings():
    # The package announces its end at import.
    warnings.simplefilter("ignore")
    from langchain_community.llms import ChatGLM


@pytest.fixture
def chat(server_url: str) -> ChatOpenAI:
    model = httpx.get(f"{server_url}/v1/models").json()["data"][0]["id"]
    return ChatOpenAI(
        model=model, base_url=f"{server_url}/v1", api_key="none", temperature=0, max_tokens=40, max_retries=0
    )  # type: ignore[call-arg, arg-type]


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
