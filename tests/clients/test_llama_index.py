"""LlamaIndex's OpenAILike in both of its modes."""

import pytest

from tests.clients.conftest import Deployment
from tests.clients.programs import Told, run_python


@pytest.fixture(scope="module")
def told(deployment: Deployment) -> Told:
    """What the program saw."""
    return run_python("openai2", "llama_index_openai_like.py", deployment.url, deployment.key)


def test_as_a_text_model_it_completes_and_streams(told: Told) -> None:
    assert "glmserve" in told["text"]
    assert told["text_stream"][-1] == told["text"]
    assert len(told["text_stream"]) > 3
    assert told["text_chat"], "it writes the conversation into a text by itself"


def test_as_a_chat_model_it_chats_and_streams(told: Told) -> None:
    assert "glmserve" in told["chat"]
    assert told["chat_stream"][-1] == told["chat"]
    assert told["chat_complete"] == told["chat_async"]
    usage = told["chat_usage"]
    assert usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"]


def test_its_tools_are_called(told: Told) -> None:
    ((name, arguments),) = told["calls"]
    assert name == "get_weather"
    assert arguments["city"] in ("北京", "上海")
