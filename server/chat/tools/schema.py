"""The JSON schema of a tool's arguments, as a grammar embeds it."""

import json
from collections.abc import Iterator, Mapping

MAX_DEPTH = 64
MAX_CHARACTERS = 65_536

_PYTHON_SPACING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""llguidance's options for JSON as ``json.dumps`` writes it: free white space lets a weak model write nothing else."""
_ONE = ("items", "contains", "not", "if", "then", "else", "propertyNames", "additionalProperties")
_MANY = ("prefixItems", "anyOf", "oneOf", "allOf")
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_COMBINED = ("allOf", "not", "if", "dependentSchemas", "unevaluatedProperties")
_ALTERNATIVES = ("anyOf", "oneOf", "$ref")


def embedded(schema: Mapping[str, object]) -> str:
    """Return ``schema`` as ``%json`` takes it in a Lark grammar: closed, and without free white space."""
    return json.dumps({**closed(schema), "x-guidance": _PYTHON_SPACING}, ensure_ascii=False)


def closed(schema: Mapping[str, object]) -> Mapping[str, object]:
    """Return ``schema`` without room for properties that it does not name.

    A model that was never trained for tools would fill that room with inventions. What the closed schema takes, the
    given one takes, too. One that combines schemas is left as it is: closing its parts could leave nothing.
    """
    if any(_combines(part) for part in subschemas(schema)):
        return schema
    return _closed(schema)


def subschemas(schema: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    """Yield ``schema`` and every schema in it."""
    left: list[object] = [schema]
    while left:
        part = left.pop()
        if not isinstance(part, Mapping):
            continue
        yield part
        left += [part[key] for key in _ONE if key in part]
        for key in _MANY:
            listed = part.get(key)
            left += listed if isinstance(listed, list) else []
        for key in _NAMED:
            named = part.get(key)
            left += named.values() if isinstance(named, Mapping) else []


def values_exceed(value: object, most: int) -> bool:
    """Return whether ``value`` has more than ``most`` values in it, all arrays and objects taken together."""
    left, count = [value], 0
    while left:
        part = left.pop()
        inner = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
        count += len(inner)
        if count > most:
            return True
        left += inner
    return False


def depth_exceeds(value: object, most: int) -> bool:
    """Return whether objects and arrays are nested more than ``most`` deep."""
    level: list[object] = [value]
    for _ in range(most + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True


def _combines(schema: Mapping[str, object]) -> bool:
    return any(key in schema for key in _COMBINED) or (
        "properties" in schema and any(key in schema for key in _ALTERNATIVES)
    )


def _closed(schema: Mapping[str, object]) -> dict[str, object]:
    result = {key: _closed_under(key, value) for key, value in schema.items()}
    if "patternProperties" not in schema and _names_what_it_requires(schema):
        result.setdefault("additionalProperties", False)
    return result


def _names_what_it_requires(schema: Mapping[str, object]) -> bool:
    named, required = schema.get("properties"), schema.get("required", [])
    return isinstance(named, Mapping) and isinstance(required, list) and all(name in named for name in required)


def _closed_under(key: str, value: object) -> object:
    if key in _ONE and isinstance(value, dict):
        return _closed(value)
    if key in _MANY and isinstance(value, list):
        return [_closed(part) if isinstance(part, dict) else part for part in value]
    if key in _NAMED and isinstance(value, dict):
        return {name: _closed(part) if isinstance(part, dict) else part for name, part in value.items()}
    return value
