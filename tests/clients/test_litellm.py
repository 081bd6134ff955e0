"""LiteLLM with its provider for servers of OpenAI's API."""

import json
import math

import pytest

from tests.clients.conftest import Deployment
from tests.clients.programs import Told, run_python


@pytest.fixture(scope="module")
def told(deployment: Deployment) -> Told:
    """What the program saw."""
    return run_python("openai2", "litellm_client.py", deployment.url, deployment.key)


def text_of(chunks: list[Told]) -> str:
    return "".join(choice["delta"]["content"] or "" for chunk in chunks for choice in chunk["choices"])


def test_a_chat_is_answered_with_its_counts(told: Told) -> None:
    assert told["whole"]["choices"][0]["message"]["content"] == told["async"]
    usage = told["whole"]["usage"]
    assert usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"]


@pytest.mark.parametrize("stream", ["stream", "stream_with_usage"])
def test_a_stream_says_the_same(told: Told, stream: str) -> None:
    assert text_of(told[stream]) == told["async"]
    assert "stop" in [choice["finish_reason"] for chunk in told[stream] for choice in chunk["choices"]]


def test_a_stream_has_counts_only_where_they_are_asked_for(told: Told) -> None:
    assert not any(chunk.get("usage") for chunk in told["stream"])
    counted = told["stream_with_usage"][-1]["usage"]
    assert counted["total_tokens"] == told["whole"]["usage"]["total_tokens"]


def test_a_tool_is_called(told: Told) -> None:
    assert told["call"]["name"] == "get_weather"
    assert json.loads(told["call"]["arguments"])["city"] in ("北京", "上海")


def test_a_text_goes_on(told: Told) -> None:
    assert told["text"]


def test_texts_become_vectors(told: Told) -> None:
    first, second = told["vectors"]
    assert first != second
    assert math.hypot(*first) == pytest.approx(1)


def test_errors_keep_their_kind(told: Told) -> None:
    assert told["refused"] == [["BadRequestError", 400], ["NotFoundError", 404], ["AuthenticationError", 401]]
