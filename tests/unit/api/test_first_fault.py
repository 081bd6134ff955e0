"""No kind of request makes a list of all that is wrong with it: of a body of 8 MB that takes gigabytes."""

from collections.abc import Iterator

import pytest
from pydantic import ValidationError

from glmserve.api.anthropic.protocol import MessagesRequest, PromptRequest
from glmserve.api.common.base import ApiModel
from glmserve.api.openai.chat_completions.protocol import ChatRequest
from glmserve.api.openai.completions.request import CompletionRequest
from glmserve.api.openai.embeddings.protocol import EmbeddingRequest
from glmserve.api.openai.responses.protocol import ResponsesRequest
from glmserve.api.openai.tokenize import DetokenizeRequest, TokenizeText
from glmserve.http.errors import InvalidRequest

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
