"""What becomes of a schema that no grammar can hold an answer to."""

import json
import time

import jsonschema_rs
import pytest

from glmserve.api.common.structured_output import schema_grammar
from glmserve.api.common.tools import FunctionDefinition, tool_config
from glmserve.chat.tools.schema_relaxation import relaxed
from glmserve.chat.tools.types import ToolError
from glmserve.engine.grammar_backend import fault
from glmserve.engine.params import Grammar, GrammarKind
from glmserve.http.errors import InvalidRequest
from tests.support.tool_schemas import PYDANTIC, ZOD

Schema = dict[str, object]

TEXT: Schema = {"type": "object", "properties": {"a": {"type": "string"}}}
CHINESE: Schema = {"$defs": {"中文": TEXT}, "$ref": "#/$defs/中文"}


def _refusal(schema: object) -> str:
    return fault(Grammar(GrammarKind.JSON_SCHEMA, json.dumps(schema, ensure_ascii=False)))


SAME: dict[str, tuple[Schema, Schema]] = {
    "null for a keyword": ({"type": "object", "properties": None, "required": None, "enum": None}, {"type": "object"}),
    "null as a value": ({"enum": [None, 1], "default": None}, {"enum": [None, 1], "default": None}),
    "any type": ({"type": "any", "description": "d"}, {"description": "d"}),
    "types of other languages": ({"type": ["STRING", "float", None]}, {"type": ["string", "number", "null"]}),
    "an unknown format": ({"type": "string", "format": "uri-reference"}, {"type": "string"}),
    "a known format": ({"type": "string", "format": "date"}, {"type": "string", "format": "date"}),
    "a whole number": ({"type": "string", "maxLength": 5.0}, {"type": "string", "maxLength": 5}),
    "the extent of a float": ({"type": "number", "maximum": 1.7e308, "minimum": -3.5e38}, {"type": "number"}),
    "not unique": ({"type": "array", "uniqueItems": False}, {"type": "array"}),
    "names that are texts": ({"type": "object", "propertyNames": {"type": "string"}}, {"type": "object"}),
    "names in a list": (
        {
            "type": "object",
            "propertyNames": {"type": "string", "enum": ["x"]},
            "additionalProperties": {"type": "null"},
        },
        {"type": "object", "properties": {"x": {"type": "null"}}, "additionalProperties": False},
    ),
    "names of a pattern": (
        {"type": "object", "propertyNames": {"pattern": "^k"}, "additionalProperties": {"type": "null"}},
        {"type": "object", "patternProperties": {"^k": {"type": "null"}}, "additionalProperties": False},
    ),
    "nothing": ({"properties": {"a": {"not": {}}}}, {"properties": {"a": False}}),
    "nothing, or a text": ({"anyOf": [{"not": {}}, {"type": "string"}]}, {"anyOf": [{"type": "string"}]}),
    "one of several types": (
        {"oneOf": [{"type": "string"}, {"type": "null"}]},
        {"anyOf": [{"type": "string"}, {"type": "null"}]},
    ),
    "a reference in Chinese": (CHINESE, {"$defs": {"中文": TEXT}, "$ref": "#/$defs/%E4%B8%AD%E6%96%87"}),
    "a reference in Chinese that is escaped": (
        {**CHINESE, "$ref": "#/$defs/%E4%B8%AD%E6%96%87"},
        {"$defs": {"中文": TEXT}, "$ref": "#/$defs/%E4%B8%AD%E6%96%87"},
    ),
    "a reference behind an identifier in Chinese": (
        {**CHINESE, "$id": "http://例/模式", "$ref": "http://例/模式#/$defs/中文"},
        {
            "$defs": {"中文": TEXT},
            "$id": "http://%E4%BE%8B/%E6%A8%A1%E5%BC%8F",
            "$ref": "http://%E4%BE%8B/%E6%A8%A1%E5%BC%8F#/$defs/%E4%B8%AD%E6%96%87",
        },
    ),
    "an anchor in Chinese": (
        {"$defs": {"a": {**TEXT, "$anchor": "中文"}}, "$ref": "#中文"},
        {"$defs": {"a": TEXT}, "$ref": "#/$defs/a"},
    ),
    "an anchor in Chinese that is escaped": (
        {"$defs": {"a": {**TEXT, "$anchor": "中文"}}, "$ref": "#%E4%B8%AD%E6%96%87"},
        {"$defs": {"a": TEXT}, "$ref": "#/$defs/a"},
    ),
    "a name that looks escaped": (
        {"$defs": {"%E4": TEXT}, "$ref": "#/$defs/%E4"},
        {"$defs": {"%E4": TEXT}, "$ref": "#/$defs/%25E4"},
    ),
    "a dialect of somebody's own": (
        {**CHINESE, "$schema": "http://例/方言"},
        {**CHINESE, "$ref": "#/$defs/%E4%B8%AD%E6%96%87"},
    ),
    "a dialect that is known": (
        {**TEXT, "$schema": "http://json-schema.org/draft-07/schema#"},
        {**TEXT, "$schema": "http://json-schema.org/draft-07/schema#"},
    ),
    "a reference that is escaped": (
        {"$defs": {"a b": TEXT}, "$ref": "#/$defs/a%20b"},
        {"$defs": {"a b": TEXT}, "$ref": "#/$defs/a%20b"},
    ),
    "a generic class": (
        {"$defs": {"Page[Row]": TEXT}, "$ref": "#/$defs/Page[Row]"},
        {"$defs": {"Page[Row]": TEXT}, "$ref": "#/$defs/Page%5BRow%5D"},
    ),
    "closed in newer words": ({**TEXT, "unevaluatedProperties": False}, {**TEXT, "additionalProperties": False}),
    "a property that is called like a keyword": (
        {"type": "object", "properties": {"not": {"type": "string"}, "type": {"type": "string"}}},
        {"type": "object", "properties": {"not": {"type": "string"}, "type": {"type": "string"}}},
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_what_means_the_same_is_rewritten_without_a_word(name: str) -> None:
    given, expected = SAME[name]
    found = relaxed(given)
    assert found.schema == expected
    assert found.left_out == ()
    assert _refusal(found.schema) == ""


LEFT_OUT: dict[str, tuple[dict[str, object], list[str]]] = {
    "unique items": ({"properties": {"t": {"type": "array", "uniqueItems": True}}}, ["properties.t.uniqueItems"]),
    "not": ({**TEXT, "not": {"required": ["a"]}}, ["not"]),
    "conditions": ({**TEXT, "if": {}, "then": {"required": ["b"]}, "else": False}, ["if", "then", "else"]),
    "dependencies": ({**TEXT, "dependencies": {"a": ["b"]}}, ["dependencies"]),
    "dependent": ({**TEXT, "dependentRequired": {"a": ["b"]}}, ["dependentRequired"]),
    "contains": ({"type": "array", "contains": {}, "minContains": 2}, ["contains", "minContains"]),
    "names": ({**TEXT, "propertyNames": {"pattern": "^a"}}, ["propertyNames"]),
    "how many properties": ({**TEXT, "minProperties": 1}, ["minProperties"]),
    "alternatives that overlap": ({"oneOf": [{"type": "string"}, {"type": "string", "maxLength": 3}]}, ["oneOf"]),
    "look-ahead": ({"anyOf": [{"type": "string", "pattern": "^(?!x)[a-z]+$"}]}, ["anyOf[0].pattern"]),
    "a back-reference": ({"type": "string", "pattern": r"(a)\1"}, ["pattern"]),
    "look-ahead in names": ({"patternProperties": {"^(?!x)": {}}}, ["patternProperties"]),
    "a type that there is not": ({"items": {"type": "thing"}}, ["items.type"]),
    "no schema": ({"properties": {"a": "string"}}, ["properties.a"]),
    "a reference to nowhere": ({"properties": {"a": {"$ref": "#/$defs/b"}}}, ["properties.a.$ref"]),
    "a reference to elsewhere": ({"$ref": "https://example.org/schema.json"}, ["$ref"]),
    "a large bound": ({"type": "number", "maximum": 1e20}, ["maximum"]),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_cannot_be_held_is_left_out_and_named(name: str) -> None:
    given, paths = LEFT_OUT[name]
    before = json.dumps(given)
    found = relaxed(given)
    assert list(found.left_out) == paths
    assert _refusal(given)
    assert _refusal(found.schema) == ""
    assert json.dumps(given) == before


def test_of_a_pattern_the_rest_is_kept() -> None:
    found = relaxed({"type": "string", "pattern": r"^(?!\.)(?!.*\.\.)[a-z.]+@[a-z]+\b$", "maxLength": 9})
    assert found.schema == {"type": "string", "pattern": "^[a-z.]+@[a-z]+$", "maxLength": 9}


def test_a_condition_leaves_room_for_the_properties_that_it_may_ask_for() -> None:
    given = {**TEXT, "if": {"required": ["a"]}, "then": {"properties": {"b": {}}, "required": ["b"]}}
    assert relaxed(given).schema == {**TEXT, "additionalProperties": True}


def test_discriminated_unions_are_disjoint_and_others_are_not() -> None:
    def kind(name: str) -> dict[str, object]:
        return {"type": "object", "properties": {"k": {"const": name}}, "required": ["k"]}

    definitions = {"A": kind("a"), "B": kind("b")}
    union = [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}]
    assert relaxed({"$defs": definitions, "oneOf": union}).left_out == ()
    assert relaxed({"$defs": {**definitions, "B": kind("a")}, "oneOf": union}).left_out == ("oneOf",)
    assert relaxed({"oneOf": [{"const": 1}, {"const": True}]}).left_out == ()
    assert relaxed({"oneOf": [{"type": "integer"}, {"type": "number"}]}).left_out == ("oneOf",)


MEANING_LOST = {"emoji", "hostname", "duration", "regex", "record_email", "py dict of UUID"}
"""Types with a look-ahead or with names in a format."""


@pytest.mark.parametrize("name", [*ZOD, *PYDANTIC])
def test_types_of_zod_and_pydantic_can_be_held(name: str) -> None:
    """Of the types as tool arguments 30 of zod and 11 of pydantic were refused."""
    schema = {**ZOD, **PYDANTIC}[name]
    found = relaxed(schema)
    assert _refusal(found.schema) == ""
    assert bool(found.left_out) == (name in MEANING_LOST), found.left_out


@pytest.mark.parametrize("name", [name for name in (*ZOD, *PYDANTIC) if not name.startswith("chinese")])
def test_a_relaxed_schema_takes_all_that_the_given_one_takes(name: str) -> None:
    schema = {**ZOD, **PYDANTIC}[name]
    strict, loose = jsonschema_rs.validator_for(schema), jsonschema_rs.validator_for(dict(relaxed(schema).schema))
    values: tuple[object, ...] = (
        "a",
        "",
        1,
        2.5,
        True,
        None,
        [],
        ["a"],
        {},
        {"x": 1},
        {"a": "b"},
        "2024-01-01",
        "a@b.cd",
        -1,
        {"城市": "京"},
    )
    for value in [*({"value": value} for value in values), {}]:
        assert not strict.is_valid(value) or loose.is_valid(value), value


@pytest.mark.parametrize(
    "hostile",
    [
        {"type": "string", "pattern": "[" * 60_000},
        {"type": "string", "pattern": "(?=" * 20_000},
        {"type": "string", "pattern": "(?=a)" * 12_000},
        {"oneOf": [{"const": number} for number in range(5_000)]},
        {"oneOf": [{"enum": list(range(number, number + 500))} for number in range(100)]},
        {"$defs": {"a": {"$ref": "#/$defs/a"}}, "oneOf": [{"$ref": "#/$defs/a"}] * 60},
        {"oneOf": [{"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#/oneOf/0"}}}] * 60},
    ],
)
def test_work_is_bounded(hostile: dict[str, object]) -> None:
    started = time.thread_time()
    try:
        relaxed(hostile)
    except RecursionError:
        pytest.fail("references in a ring were followed")
    assert time.thread_time() - started < 1.0


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "a" * 7_000_000},
        {"type": "object", "properties": {f"p{number}": {"type": "string"} for number in range(24_000)}},
        {"type": "string", "pattern": "(?!x)a" * 60_000},
    ],
)
def test_what_is_too_large_for_a_grammar_is_refused_before_it_costs_anything(schema: dict[str, object]) -> None:
    started = time.thread_time()
    with pytest.raises(InvalidRequest, match="bytes"):
        schema_grammar(schema, "guided_json")
    assert time.thread_time() - started < 0.5


def test_many_tools_cost_no_more_than_one_that_is_as_large_as_may_be() -> None:
    large: Schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "(?!x)a" * 10_000}}}
    functions = [FunctionDefinition(name=f"f{number}", parameters=large) for number in range(100)]
    started = time.thread_time()
    with pytest.raises(ToolError, match="all tools"):
        tool_config(functions, None, "tool_choice", parallel=True)
    assert time.thread_time() - started < 0.5
