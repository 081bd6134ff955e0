"""What callers ask of the shape of an answer, as grammars."""

import json
import re

import pytest

from glmserve.api.common.base import parse
from glmserve.api.common.structured_output import GrammarFields, to_grammar
from glmserve.engine.params import Grammar, GrammarKind, one_of
from glmserve.http.errors import InvalidRequest

SCHEMA = {"type": "object", "properties": {"z": {"const": "é"}, "a": {}}}
SOURCE = '{"type":"object","properties":{"z":{"const":"é"},"a":{}}}'
CLOSED = '{"type":"object","properties":{"z":{"const":"é"},"a":{}},"additionalProperties":false}'


def grammar(**body: object) -> Grammar | None:
    return to_grammar(parse(GrammarFields, body))


def wrapped(**fields: object) -> dict[str, object]:
    return {"type": "json_schema", "json_schema": fields}


@pytest.mark.parametrize(
    "body",
    [
        {"response_format": wrapped(name="x", schema=SCHEMA)},
        {"response_format": wrapped(name="x", schema=SCHEMA, strict=True, description="d")},
        {"response_format": wrapped(schema=SCHEMA, strict=False)},
        {"response_format": {"type": "json_object", "schema": SCHEMA}},
        {"structured_outputs": {"json": SCHEMA}},
        {"structured_outputs": {"json": SOURCE}},
        {"guided_json": SCHEMA},
        {"guided_json": SOURCE},
        {"guided_json": SCHEMA, "response_format": {"type": "text"}, "structured_outputs": {}},
    ],
)
def test_every_spelling_of_a_schema_is_the_same_schema_in_its_own_order(body: dict[str, object]) -> None:
    assert grammar(**body) == Grammar(GrammarKind.JSON_SCHEMA, CLOSED)


@pytest.mark.parametrize("more", [True, {"type": "integer"}])
def test_room_for_other_properties_is_left_where_it_is_requested(more: object) -> None:
    schema = {**SCHEMA, "additionalProperties": more}
    found = grammar(guided_json=schema)
    assert found is not None
    assert json.loads(found.source) == schema


@pytest.mark.parametrize(
    "body",
    [{"response_format": {"type": "json_object"}}, {"structured_outputs": {"json_object": True}}],
)
def test_a_json_object_is_any_object(body: dict[str, object]) -> None:
    found = grammar(**body)
    assert found is not None
    assert json.loads(found.source) == {"type": "object"}


def test_expressions_grammars_and_choices_are_passed_on() -> None:
    for name in ("regex", "grammar"):
        kind = GrammarKind.REGEX if name == "regex" else GrammarKind.LARK
        assert grammar(structured_outputs={name: "x"}) == grammar(**{f"guided_{name}": "x"}) == Grammar(kind, "x")
    assert grammar(guided_choice=["a.b", "c"]) == grammar(structured_outputs={"choice": ["a.b", "c"]})


def test_a_choice_is_taken_literally() -> None:
    choices = ["a.b|c", "(", "x\ny", "中 文", "<&~#>"]
    pattern = one_of(choices).source
    assert all(re.fullmatch(pattern, choice) for choice in choices)
    assert not re.fullmatch(pattern, "axb")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"response_format": None},
        {"response_format": {"type": "text"}},
        {"structured_outputs": {}},
        {"structured_outputs": {"json": None, "json_object": False}},
    ],
)
def test_a_neutral_value_is_no_value(body: dict[str, object]) -> None:
    assert grammar(**body) is None


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {}}, "response_format.type"),
        ({"response_format": "json_object"}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": wrapped(name="x")}, "response_format.json_schema.schema"),
        ({"response_format": wrapped(schema=[1])}, "response_format.json_schema.schema"),
        ({"structured_outputs": {"structural_tag": "{}"}}, "structured_outputs.structural_tag"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
        ({"structured_outputs": {"choice": [1]}}, "structured_outputs.choice[0]"),
        ({"structured_outputs": {"json": "{"}}, "structured_outputs.json"),
        ({"structured_outputs": {"json": "[]"}}, "structured_outputs.json"),
        ({"structured_outputs": {"grammar": 'root ::= "a"'}}, "structured_outputs.grammar"),
        ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs.choice"),
        ({"guided_regex": "a", "response_format": {"type": "json_object"}}, "guided_regex"),
    ],
)
def test_what_is_wrong_is_named(body: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        grammar(**body)
    assert (refused.value.param or "").startswith(param)
