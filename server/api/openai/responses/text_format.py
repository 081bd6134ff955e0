"""The field ``text``: the format of an answer, flat where chat completions wrap the schema."""

from typing import Annotated, Literal

from pydantic import Field

from glmserve.api.common.base import RequestObject
from glmserve.api.common.structured_output import Schema, schema_grammar
from glmserve.engine.grammar import Grammar
from glmserve.http.errors import InvalidRequest


class TextFormat(RequestObject):
    """``text.format``. Unless it is ``strict``, what cannot be held of a schema is left out, and told."""

    path = "text.format"

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    json_schema: Annotated[Schema | None, Field(alias="schema")] = None
    strict: bool | None = None


class TextConfig(RequestObject):
    """``text``. How wordy the answer is (``verbosity``) the model knows no way to vary."""

    path = "text"

    format: TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


def format_grammar(text: TextConfig | None) -> Grammar | None:
    """Return the grammar that is asked for, if one is.

    Raises:
        InvalidRequest: the schema is missing or too deep.
    """
    asked = None if text is None else text.format
    if asked is None or asked.type == "text":
        return None
    if asked.type == "json_object":
        return schema_grammar({"type": "object"}, "text.format")
    path = "text.format.schema"
    if asked.json_schema is None:
        raise InvalidRequest(f"{path} is required", param=path, code="missing_required_parameter")
    return schema_grammar(asked.json_schema, path, strict=bool(asked.strict))


def text_object(text: TextConfig | None) -> dict[str, object]:
    """Return the field as the response repeats it."""
    asked = None if text is None else text.format
    if asked is None:
        return {"format": {"type": "text"}}
    return {"format": asked.model_dump(by_alias=True, exclude_none=True)}
