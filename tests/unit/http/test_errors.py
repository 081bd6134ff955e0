"""Every error that a request can meet has a row in the one table."""

import json

import pytest
from starlette.exceptions import HTTPException

from glmserve.chat.prompts.messages import PromptError
from glmserve.engine.errors import EngineError, PromptTooLong, QueueFull, RequestRejected
from glmserve.http.error_replies import describe, is_expected
from glmserve.http.errors import ApiError, InvalidRequest


def leaves(root: type[Exception]) -> list[type[Exception]]:
    below = [leaf for kind in root.__subclasses__() for leaf in leaves(kind)]
    return below or [root]


@pytest.mark.parametrize("kind", [*leaves(ApiError), *leaves(EngineError), PromptError])
def test_every_kind_of_error_is_expected(kind: type[Exception]) -> None:
    assert kind not in (RequestRejected, EngineError, ApiError)
    assert is_expected(kind.__new__(kind))


def test_an_error_of_no_known_kind_is_reported_in_general_words() -> None:
    reply = describe(KeyError("secret"))
    assert (reply.status, reply.code) == (500, "internal_error")
    assert "secret" not in json.dumps(reply.envelope())
    assert not is_expected(KeyError())


def test_a_prompt_too_long_names_the_field_and_the_numbers() -> None:
    reply = describe(PromptTooLong(5000, 4096))
    assert (reply.status, reply.code, reply.param) == (400, "context_length_exceeded", "messages")
    assert "5000" in reply.message
    assert "4096" in reply.message


def test_a_full_queue_says_when_to_come_back() -> None:
    assert describe(QueueFull(5, retry_after=7)).headers() == {"Retry-After": "7"}


def test_an_error_may_have_a_code_of_its_own() -> None:
    assert describe(InvalidRequest("no", param="tools", code="unsupported_parameter")).envelope() == {
        "error": {
            "message": "no",
            "type": "invalid_request_error",
            "param": "tools",
            "code": "unsupported_parameter",
        }
    }


def test_a_wrong_method_says_which_are_right() -> None:
    reply = describe(HTTPException(405, headers={"Allow": "POST"}))
    assert (reply.status, reply.headers()) == (405, {"Allow": "POST"})
