"""The page of fields, and that it leaves none out."""

import re
from pathlib import Path

import pytest
from anthropic.types import message_count_tokens_params as count_params
from anthropic.types import message_create_params as message_params
from openai.types import EmbeddingCreateParams
from openai.types import completion_create_params as text_params
from openai.types.chat import completion_create_params as chat_params
from openai.types.responses import response_create_params as response_params

from docs.generate.fields_page import ENDPOINTS, fields_page
from docs.generate.schema_text import value_text
from glmserve.api.anthropic.protocol import MessagesRequest, PromptRequest

PAGE = Path(__file__).parents[3] / "docs" / "fields.md"


@pytest.mark.parametrize(("language", "page"), [("en", PAGE), ("zh", PAGE.parent / "zh" / PAGE.name)])
def test_the_fields_page_is_up_to_date(language: str, page: Path) -> None:
    assert page.read_text("utf-8") == fields_page(language), "run make docs"


def test_nothing_on_the_chinese_page_is_in_english() -> None:
    rows = [line for line in fields_page("zh").splitlines() if line.startswith("| `")]
    assert [row for row in rows if re.search(r"[a-z]+ [a-z]+ [a-z]+", row.rpartition(" | ")[2])] == []


@pytest.mark.parametrize(
    ("path", "official"),
    [
        ("/v1/chat/completions", {*chat_params.CompletionCreateParamsBase.__annotations__, "stream"}),
        ("/v1/embeddings", {*EmbeddingCreateParams.__annotations__}),
        ("/v1/completions", {*text_params.CompletionCreateParamsBase.__annotations__, "stream"}),
        ("/v1/responses", {*response_params.ResponseCreateParamsBase.__annotations__, "stream"}),
        ("/v1/messages", {*message_params.MessageCreateParamsBase.__annotations__, "stream"}),
        ("/v1/messages/count_tokens", {*count_params.MessageCountTokensParams.__annotations__}),
    ],
)
def test_every_field_of_the_official_client_is_known(path: str, official: set[str]) -> None:
    assert official <= ENDPOINTS[path].known_fields()


def test_counting_tokens_ignores_every_field_about_the_answer() -> None:
    assert MessagesRequest.known_fields() == PromptRequest.known_fields()


@pytest.mark.parametrize("path", ENDPOINTS)
def test_every_supported_field_has_a_description(path: str) -> None:
    properties = ENDPOINTS[path].model_json_schema()["properties"]
    assert [name for name, schema in properties.items() if not schema.get("description")] == []


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "number", "minimum": -2, "maximum": 2}, "number -2 to 2"),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 2}, "number > 0, ≤ 2"),
        ({"anyOf": [{"type": "integer", "minimum": -1}, {"type": "null"}]}, "integer ≥ -1"),
        ({"anyOf": [{"$ref": "#/$defs/A"}, {"type": "object"}, {"type": "string"}]}, "object or string"),
        ({"enum": ["a", "b"]}, "`a` or `b`"),
        (
            {"type": "array", "minItems": 1, "maxItems": 9, "items": {"type": "string", "maxLength": 5}},
            "array (length ≥ 1, ≤ 9) of string (length ≤ 5)",
        ),
        ({}, "any"),
    ],
)
def test_types_and_bounds_are_shown(schema: dict[str, object], text: str) -> None:
    assert value_text(schema) == text
