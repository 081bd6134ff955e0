"""The page of fields, and that it leaves none out."""

import re
from pathlib import Path

import pytest

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


def official_fields() -> dict[str, set[str]]:
    """The fields of each endpoint in the official clients, which take seconds to import."""
    from anthropic.types import message_count_tokens_params, message_create_params
    from openai.types import completion_create_params, embedding_create_params
    from openai.types.chat import completion_create_params as chat_create_params
    from openai.types.responses import response_create_params

    parameters = {
        "/v1/chat/completions": chat_create_params.CompletionCreateParamsBase,
        "/v1/embeddings": embedding_create_params.EmbeddingCreateParams,
        "/v1/completions": completion_create_params.CompletionCreateParamsBase,
        "/v1/responses": response_create_params.ResponseCreateParamsBase,
        "/v1/messages": message_create_params.MessageCreateParamsBase,
        "/v1/messages/count_tokens": message_count_tokens_params.MessageCountTokensParams,
    }
    streamed = {path for path, one in parameters.items() if one.__name__.endswith("Base")}
    return {path: {*one.__annotations__, *(["stream"] if path in streamed else ())} for path, one in parameters.items()}


def test_every_field_of_the_official_clients_is_known() -> None:
    official = official_fields()
    assert len(official) == 6
    unknown = {path: fields - ENDPOINTS[path].known_fields() for path, fields in official.items()}
    assert not any(unknown.values()), unknown


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
