"""Structured output: the fields of OpenAI and vLLM, translated to a grammar for the engine."""

import json
from typing import Annotated, Literal

from pydantic import Field

from glmserve.api.common.base import ApiModel, AtMost, ListOf, RequestObject
from glmserve.api.common.field_policy import FieldPolicy, Rejected
from glmserve.chat.tools.schema import closed, values_exceed
from glmserve.chat.tools.schema_relaxation import Relaxed, relaxed
from glmserve.engine.params import Grammar, GrammarKind, one_of, size_problem
from glmserve.http.errors import InvalidRequest
from glmserve.http.request_record import current_request

_MAX_CHOICES = 10_000
_MAX_VALUES = 65_536
"""A grammar may have as many bytes."""

Schema = dict[str, object] | bool
"""A JSON schema."""

_ANY_OBJECT: Schema = {"type": "object"}


class JsonSchemaFormat(RequestObject):
    """OpenAI's wrapping of a schema. Unless it is ``strict``, unenforceable keywords are dropped and reported."""

    path = "response_format.json_schema"

    name: str | None = None
    description: str | None = None
    json_schema: Annotated[Schema, Field(alias="schema")]
    strict: bool | None = None


class ResponseFormat(RequestObject):
    """``response_format``."""

    path = "response_format"

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None
    object_schema: Annotated[Schema | None, Field(alias="schema")] = None
    """With ``json_object``, as llama-server takes it."""


class StructuredOutputs(RequestObject):
    """``structured_outputs``, vLLM's: one of its fields."""

    path = "structured_outputs"
    policy = FieldPolicy(rejected=(Rejected("structural_tag"), Rejected("whitespace_pattern")))

    json_schema: Annotated[Schema | str | None, Field(alias="json")] = None
    regex: str | None = None
    choice: Annotated[ListOf[str], Field(min_length=1), AtMost(_MAX_CHOICES)] | None = None
    grammar: str | None = None
    json_object: bool | None = None


def _older(name: str) -> str:
    return f"Extension. Older name of structured_outputs.{name}."


class GrammarFields(ApiModel):
    """The fields that constrain an answer; at most one of them may be set."""

    response_format: ResponseFormat | None = Field(
        default=None,
        description="Format of the answer: text, json_object or json_schema. With strict, the request fails if a part "
        "of the schema cannot be enforced. Can be combined with tools.",
    )
    structured_outputs: StructuredOutputs | None = Field(
        default=None, description="Extension. Exactly one of json, regex, choice, grammar (Lark) and json_object."
    )
    guided_json: Schema | str | None = Field(default=None, description=_older("json"))
    guided_regex: str | None = Field(default=None, description=_older("regex"))
    guided_choice: Annotated[ListOf[str], Field(min_length=1), AtMost(_MAX_CHOICES)] | None = Field(
        default=None, description=_older("choice")
    )
    guided_grammar: str | None = Field(default=None, description=_older("grammar"))


def to_grammar(fields: GrammarFields) -> Grammar | None:
    """Return the grammar that the fields specify, if any.

    Raises:
        InvalidRequest: they specify two, or an invalid one. The engine checks whether it can be used.
    """
    outputs = fields.structured_outputs or StructuredOutputs()
    grammars = {
        "response_format": _of_format(fields.response_format),
        "structured_outputs.json": _of_json(outputs.json_schema, "structured_outputs.json"),
        "structured_outputs.regex": _of_regex(outputs.regex),
        "structured_outputs.choice": _of_choice(outputs.choice),
        "structured_outputs.grammar": _of_lark(outputs.grammar, "structured_outputs.grammar"),
        "structured_outputs.json_object": schema_grammar(_ANY_OBJECT, "structured_outputs")
        if outputs.json_object
        else None,
        "guided_json": _of_json(fields.guided_json, "guided_json"),
        "guided_regex": _of_regex(fields.guided_regex),
        "guided_choice": _of_choice(fields.guided_choice),
        "guided_grammar": _of_lark(fields.guided_grammar, "guided_grammar"),
    }
    found = [(name, grammar) for name, grammar in grammars.items() if grammar is not None]
    if len(found) > 1:
        (first, _), (second, _), *_ = found
        raise InvalidRequest(f"{first} and {second} exclude each other; send one of them", param=second)
    return found[0][1] if found else None


def schema_grammar(schema: Schema, path: str, *, strict: bool = True) -> Grammar:
    """Return the grammar of the JSON texts that fit ``schema`` and have no property that it does not name.

    Most schemas are open (additionalProperties), and an untrained model would invent properties up to the token limit.

    Args:
        schema: the requested schema.
        path: where the request has it.
        strict: enforce all of it; otherwise keywords that cannot be enforced are left out and reported.

    Raises:
        InvalidRequest: the schema is nested too deeply or too large; or strict, and cannot be enforced in full.
    """
    if values_exceed(schema, _MAX_VALUES):
        raise InvalidRequest(f"the schema exceeds the limit of {_MAX_VALUES} values", param=path)
    try:
        _check_size(schema, path)
        found = relaxed(schema) if isinstance(schema, dict) else Relaxed({} if schema else {"not": {}})
        source = json.dumps(closed(found.schema), ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        raise InvalidRequest("the schema is nested too deeply", param=path) from None
    for part in found.left_out:
        if strict:
            raise InvalidRequest(
                f"the grammar cannot enforce {part} of {path}; write the schema without it",
                param=f"{path}.{part}",
                code="unsupported_grammar",
            )
        current_request().relax(f"{path}: {part}")
    return Grammar(GrammarKind.JSON_SCHEMA, source)


def _check_size(schema: Schema, path: str) -> None:
    """Reject a schema that is too large for a grammar before any more work is done on it. Raises InvalidRequest."""
    text = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
    if problem := size_problem(Grammar(GrammarKind.JSON_SCHEMA, text)):
        raise InvalidRequest(f"the schema cannot be used: {problem}", param=path, code="unsupported_grammar")


def _of_format(requested: ResponseFormat | None) -> Grammar | None:
    if requested is None or requested.type == "text":
        return None
    if requested.type == "json_object":
        schema = _ANY_OBJECT if requested.object_schema is None else requested.object_schema
        return schema_grammar(schema, "response_format.schema", strict=False)
    if requested.json_schema is None:
        path = "response_format.json_schema"
        raise InvalidRequest(f"{path} is required", param=path, code="missing_required_parameter")
    path = "response_format.json_schema.schema"
    return schema_grammar(requested.json_schema.json_schema, path, strict=bool(requested.json_schema.strict))


def _of_json(schema: Schema | str | None, path: str) -> Grammar | None:
    if schema is None or not isinstance(schema, str):
        return None if schema is None else schema_grammar(schema, path)
    try:
        parsed = json.loads(schema)
    except (ValueError, RecursionError):
        raise InvalidRequest(f"{path} is a string that is not JSON", param=path) from None
    if not isinstance(parsed, dict | bool):
        raise InvalidRequest(f"{path} must be a JSON schema: an object or a boolean", param=path)
    return schema_grammar(parsed, path)


def _of_regex(source: str | None) -> Grammar | None:
    return None if source is None else Grammar(GrammarKind.REGEX, source)


def _of_choice(choices: list[str] | None) -> Grammar | None:
    return None if choices is None else one_of(choices)


def _of_lark(source: str | None, path: str) -> Grammar | None:
    if source is not None and "::=" in source:
        raise InvalidRequest(f"{path} is EBNF or GBNF; this server supports Lark (rule: ...)", param=path)
    return None if source is None else Grammar(GrammarKind.LARK, source)
