"""Errors of validation say what belongs at which place in the words of JSON, and never in those of Python."""

import re

import pytest

from glmserve.api.anthropic.protocol import parse_messages_request
from glmserve.api.common.base import parse
from glmserve.api.openai.chat_completions.protocol import parse_chat_request
from glmserve.api.openai.responses.protocol import ResponsesRequest
from glmserve.http.errors import InvalidRequest

PYTHON = re.compile(r"\b(str|dict|dictionary|None|NoneType|bool|int|float|tuple|instance of|valid list)\b|\[\w+,")
ASK = {"role": "user", "content": "a"}

CHAT = [
    ({"messages": [5]}, "messages[0]: must be an object"),
    ({"messages": 5}, "messages: must be an array"),
    ({"messages": [ASK], "response_format": 5}, "response_format: must be an object"),
    ({"messages": [ASK], "tools": [{"type": "function"}]}, "tools[0].function is required"),
    ({"messages": [{"role": "assistant", "tool_calls": [5]}]}, "messages[0].tool_calls[0]: must be an object"),
    ({"messages": [ASK], "n": "x"}, "n: must be an integer"),
    ({"messages": [ASK], "stream": 3}, "stream: must be true or false"),
    ({"messages": []}, "messages: must not be empty"),
]
MESSAGES = [
    (
        {"messages": [{"role": "user", "content": 5}], "max_tokens": 5},
        "messages[0].content: must be a string or an array",
    ),
    ({"messages": [{"role": "user", "content": [5]}], "max_tokens": 5}, "messages[0].content[0]: must be an object"),
    ({"messages": [ASK], "max_tokens": 5, "tool_choice": 5}, "tool_choice: must be an object"),
]
RESPONSES = [
    ({"input": "a", "tools": [5]}, "tools[0]: must be an object"),
    ({"input": "a", "text": 5}, "text: must be an object"),
    ({"input": "a", "metadata": {"a": 5}}, "metadata.a: must be a string"),
]


def check(dialect: str, body: dict[str, object]) -> None:
    if dialect == "responses":
        parse(ResponsesRequest, body)
    else:
        {"chat": parse_chat_request, "messages": parse_messages_request}[dialect](body)


def fault_of(dialect: str, body: dict[str, object]) -> InvalidRequest | None:
    try:
        check(dialect, body)
    except InvalidRequest as error:
        return error
    return None


@pytest.mark.parametrize(
    ("dialect", "body", "message"),
    [
        *(("chat", *case) for case in CHAT),
        *(("messages", *case) for case in MESSAGES),
        *(("responses", *case) for case in RESPONSES),
    ],
)
def test_a_wrong_value_is_named_by_its_place_and_the_type_that_belongs_there(
    dialect: str, body: dict[str, object], message: str
) -> None:
    error = fault_of(dialect, body)
    assert str(error) == message
    assert error is not None
    assert error.param == message.partition(" is required")[0].partition(": ")[0]


@pytest.mark.parametrize("dialect", ["chat", "messages", "responses"])
@pytest.mark.parametrize("value", [5, "x", True, 1.5, [5], [[]], {"a": 5}, [{"type": 5}], [None]])
def test_no_error_speaks_of_python(dialect: str, value: object) -> None:
    good: dict[str, object] = {"input": "a"} if dialect == "responses" else {"messages": [ASK], "max_tokens": 5}
    fields = ("messages", "tools", "tool_choice", "stop", "temperature", "stream", "metadata", "text", "system", "n")
    faults = [fault_of(dialect, {**good, field: value}) for field in fields]
    assert any(faults)
    assert not [str(fault) for fault in faults if fault is not None and PYTHON.search(str(fault))]
