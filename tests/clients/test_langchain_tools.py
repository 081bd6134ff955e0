"""LangChain's tools and structured output, on the embedded model."""

from typing import Literal

import pytest
from langchain_core.messages import AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.messages.ai import add_ai_message_chunks
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field

from tests.support.langchain_chat import chat_openai


@tool
def get_weather(city: Literal["北京", "上海"]) -> str:
    """查询一个城市的天气。"""
    return f"{city}：晴"


class Review(BaseModel):
    """A judgement of a text."""

    verdict: Literal["good", "bad"]
    stars: int = Field(ge=1, le=5)


@pytest.fixture
def chat(server_url: str) -> ChatOpenAI:
    return chat_openai(server_url, 200)


def test_a_bound_tool_is_called_and_answered(chat: ChatOpenAI) -> None:
    question = HumanMessage("北京的天气怎么样？")
    asked = chat.bind_tools([get_weather], tool_choice="any", parallel_tool_calls=False).invoke([question])
    (call,) = asked.tool_calls
    assert call["name"] == "get_weather"
    result = get_weather.invoke(call)
    assert isinstance(result, ToolMessage)
    assert chat.bind_tools([get_weather]).invoke([question, asked, result])


def test_a_stream_of_calls_is_gathered(chat: ChatOpenAI) -> None:
    bound = chat.bind_tools([get_weather], tool_choice="get_weather", parallel_tool_calls=False)
    chunks = [part for part in bound.stream("北京的天气怎么样？") if isinstance(part, AIMessageChunk)]
    whole = add_ai_message_chunks(chunks[0], *chunks[1:])
    (call,) = whole.tool_calls
    assert call["args"]["city"] in ("北京", "上海")


@pytest.mark.parametrize("method", ["function_calling", "json_schema"])
def test_output_is_structured(chat: ChatOpenAI, method: Literal["function_calling", "json_schema"]) -> None:
    review = chat.with_structured_output(Review, method=method).invoke("很好吃，下次还来。")
    assert isinstance(review, Review)
