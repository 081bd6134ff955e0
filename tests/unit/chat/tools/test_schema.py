"""Schemas are closed where that takes nothing away, and are what they were else."""

import pytest

from glmserve.chat.tools.schema import closed, depth_exceeds

A = {"properties": {"a": {"type": "string"}}}
SHUT = {**A, "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "result"),
    [
        ({"type": "object"}, {"type": "object"}),
        (A, SHUT),
        ({**A, "additionalProperties": True}, {**A, "additionalProperties": True}),
        ({"properties": {"x": A}}, {"properties": {"x": SHUT}, "additionalProperties": False}),
        ({"items": A}, {"items": SHUT}),
        ({"anyOf": [A, True]}, {"anyOf": [SHUT, True]}),
        ({"$defs": {"x": A}, "$ref": "#/$defs/x"}, {"$defs": {"x": SHUT}, "$ref": "#/$defs/x"}),
        ({"enum": [A]}, {"enum": [A]}),
        ({**A, "required": ["b"]}, {**A, "required": ["b"]}),
        ({**A, "patternProperties": {"^x": {}}}, {**A, "patternProperties": {"^x": {}}}),
    ],
)
def test_objects_are_closed_at_every_depth(schema: dict[str, object], result: dict[str, object]) -> None:
    assert closed(schema) == result


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [A, {"properties": {"b": {}}}]},
        {**A, "anyOf": [{"properties": {"b": {}}}]},
        {"properties": {"x": {**A, "$ref": "#/$defs/y"}}, "$defs": {"y": {"properties": {"b": {}}}}},
    ],
)
def test_what_combines_schemas_is_left_alone(schema: dict[str, object]) -> None:
    assert closed(schema) == schema


def test_a_property_may_be_called_like_a_keyword() -> None:
    schema = {"properties": {"properties": {"type": "string"}, "allOf": {"type": "string"}}}
    assert closed(schema) == {**schema, "additionalProperties": False}


def test_depth_is_counted_without_recursion() -> None:
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    assert depth_exceeds(value, 64)
    assert not depth_exceeds({"a": [{}]}, 3)
    assert depth_exceeds({"a": [{}]}, 1)
