"""Declared fields, and the one error of a body: its path and its type in the words of JSON."""

import re
from collections.abc import Iterator

import pytest
from pydantic import ValidationError

from glmserve.api.anthropic.protocol import MessagesRequest, PromptRequest, parse_messages_request
from glmserve.api.common.base import ApiModel, RequestObject, parse
from glmserve.api.common.field_policy import FieldPolicy, Ignored, Rejected
from glmserve.api.openai.chat_completions.protocol import ChatRequest, parse_chat_request
from glmserve.api.openai.completions.protocol import CompletionRequest
from glmserve.api.openai.embeddings import EmbeddingRequest
from glmserve.api.openai.responses.protocol import ResponsesRequest
from glmserve.api.openai.tokenize import DetokenizeRequest, TokenizeText
from glmserve.http.errors import InvalidRequest
from glmserve.http.request_record import IGNORED_FIELDS, RequestRecord, enter_request


class Body(RequestObject):
    policy = FieldPolicy((Ignored("user", "nothing is counted"),), (Rejected("audio", (0,), "use text"),))

    text: str | None = None


@pytest.mark.parametrize("policy", [FieldPolicy(ignored=(Ignored("n"),)), FieldPolicy(rejected=(Rejected("n"),))])
def test_a_field_cannot_be_declared_and_be_in_a_table(policy: FieldPolicy) -> None:
    with pytest.raises(TypeError, match=r"Twice declares fields that its policy ignores or rejects: \['n'\]"):
        type("Twice", (Body,), {"__annotations__": {"n": int | None}, "n": None, "policy": policy})


def test_a_field_is_supported_because_the_model_declares_it() -> None:
    record = RequestRecord()
    enter_request(record)
    parse(Body, {"text": "x", "user": 1, "audio": 0, "other": 1})
    assert record.listed == {IGNORED_FIELDS: ["other"]}
    enter_request(RequestRecord())


def test_a_rejected_field_says_what_to_use() -> None:
    with pytest.raises(InvalidRequest, match=r"audio is not supported by this server \(use text\)") as caught:
        parse(Body, {"audio": 1})
    assert caught.value.param == "audio"


def test_the_schema_has_every_known_field_with_its_description() -> None:
    schema = Body.model_json_schema()
    assert set(schema["properties"]) == Body.known_fields()
    assert schema["properties"]["user"] == {"description": "Accepted without effect. Nothing is counted."}
    assert schema["properties"]["audio"]["description"] == "Not supported. Use text."
    assert schema["properties"]["audio"]["anyOf"][0] == {"enum": [0, "", None]}


REQUESTS = (
    ChatRequest, CompletionRequest, EmbeddingRequest, TokenizeText, DetokenizeRequest, ResponsesRequest,
    MessagesRequest, PromptRequest,
)  # fmt: skip
MOST = 40
"""A few for each member of a union."""


def wire_models(root: type[ApiModel] = ApiModel) -> Iterator[type[ApiModel]]:
    for model in root.__subclasses__():
        yield model
        yield from wire_models(model)


def arrays(schema: object) -> Iterator[dict[str, object]]:
    """Yield the schemas of arrays in one of pydantic's core."""
    if isinstance(schema, dict):
        if schema.get("type") in ("list", "set", "frozenset", "tuple"):
            yield schema
        for key, part in schema.items():
            if key != "json_schema_input_schema":  # which is for documentation alone
                yield from arrays(part)
    elif isinstance(schema, list | tuple):
        for part in schema:
            yield from arrays(part)


@pytest.mark.parametrize("model", list(wire_models()), ids=lambda model: model.__name__)
def test_an_array_is_checked_up_to_its_first_wrong_item(model: type[ApiModel]) -> None:
    for array in arrays(model.__pydantic_core_schema__):
        checked_by_us = array["type"] == "tuple"  # made by a validator of ours, so that nothing in it can be wrong
        assert array.get("fail_fast") or checked_by_us, array


@pytest.mark.parametrize("model", REQUESTS, ids=lambda model: model.__name__)
def test_many_wrong_values_are_few_errors(model: type[ApiModel]) -> None:
    wide = {str(index): 0.5 for index in range(5000)}
    named = {"id": "x", "variables": wide, "type": "x", "tools": [0] * 5000}
    for wrong in ([object()] * 5000, wide, [wide] * 100, named):
        for name, field in model.model_fields.items():
            assert errors(model, {field.alias or name: wrong}) < MOST, name


def errors(model: type[ApiModel], body: dict[str, object]) -> int:
    try:
        model.model_validate(body)
    except ValidationError as error:
        return error.error_count()
    except InvalidRequest:
        return 1
    return 0


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
