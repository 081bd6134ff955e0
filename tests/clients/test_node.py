"""The official client for Node, on the embedded model and an embedding model."""

import math

import pytest

from tests.clients.conftest import Deployment
from tests.clients.programs import Told, run_node


@pytest.fixture(scope="module")
def told(deployment: Deployment) -> Told:
    """What the program saw."""
    return run_node("openai.mjs", deployment.url, deployment.key, deployment.narrow_key)


def test_models_are_listed_and_found_by_an_alias(told: Told) -> None:
    assert told["models"][:2] == ["chatglm2-tiny", "bert"]
    assert told["model"] == "chatglm2-tiny"


def test_a_chat_is_answered_with_its_counts_and_its_id(told: Told) -> None:
    chat = told["chat"]
    assert chat["choice"]["message"]["content"]
    assert chat["choice"]["finish_reason"] == "stop"
    assert 0 < chat["usage"]["completion_tokens"] <= 40
    assert chat["requestId"] == chat["header"]


def test_a_stream_says_the_same_and_ends_with_the_counts(told: Told) -> None:
    assert told["stream"]["text"] == told["chat"]["choice"]["message"]["content"]
    assert told["stream"]["role"] == "assistant"
    assert told["stream"]["last"]["choices"] == []
    assert told["stream"]["last"]["usage"]["total_tokens"] == told["chat"]["usage"]["total_tokens"]


def test_a_streamed_call_is_gathered_and_parsed(told: Told) -> None:
    final = told["toolStream"]["final"]
    (call,) = final["message"]["tool_calls"]
    assert final["finish_reason"] == "tool_calls"
    assert told["toolStream"]["names"] == [call["function"]["name"]] == ["get_weather"]
    assert call["function"]["arguments"] in ('{"city": "北京"}', '{"city": "上海"}')


def test_tools_are_run_and_their_results_sent_back(told: Told) -> None:
    assert told["runTools"]["called"][0] in ("北京", "上海")
    assert told["runTools"]["roles"][:3] == ["user", "assistant", "tool"]


def test_a_text_goes_on(told: Told) -> None:
    choice = told["completions"]
    assert choice["text"]
    assert "".join(choice["logprobs"]["tokens"]) == choice["text"]


def test_embeddings_unpacked_from_base64_are_the_numbers(told: Told) -> None:
    unpacked, numbers = told["embeddings"]
    assert unpacked[0] != unpacked[1]
    for packed, plain in zip(unpacked, numbers, strict=True):
        assert packed == pytest.approx(plain, abs=1e-6)
        assert math.hypot(*packed) == pytest.approx(1)


def test_responses_are_streamed_and_gone_on_from(told: Told) -> None:
    responses = told["responses"]
    assert responses["text"]
    assert responses["previous"] == responses["first"]
    assert responses["status"] in ("completed", "incomplete")
    assert responses["types"][0] == "response.created"
    assert "response.output_text.delta" in responses["types"]


def test_errors_are_of_the_kinds_that_programs_catch(told: Told) -> None:
    kinds = [(error["kind"], error["status"], error["code"], error["param"]) for error in told["errors"]]
    assert kinds == [
        ("BadRequestError", 400, "invalid_value", "temperature"),
        ("NotFoundError", 404, "model_not_found", "model"),
        ("BadRequestError", 400, "invalid_value", "n"),
        ("AuthenticationError", 401, "invalid_api_key", None),
    ]
    assert all(error["type"] == "invalid_request_error" and error["requestID"] for error in told["errors"])


def test_a_refused_request_is_sent_again_when_the_server_said(told: Told) -> None:
    retries = told["retries"]
    assert retries["seen"] == [[200, None], [429, "1"], [200, None]]
    assert retries["seconds"] >= 1
    assert retries["completionTokens"] == 1
