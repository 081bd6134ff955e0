"""The JSON schema of a tool's arguments, as a grammar embeds it, and whether alternatives exclude each other. Pure."""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import unquote

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


_MAX_REFERENCES = 16
_MAX_PAIRS = 2_000
_MAX_VALUES = 200
_ALL_TYPES = frozenset(("string", "number", "boolean", "object", "array", "null"))


def resolve(reference: str, root: Mapping[str, object]) -> tuple[tuple[str, ...], object] | None:
    """Return the steps from ``root`` to the schema at ``reference``, and it; None if there is none or it is elsewhere.

    The names in a reference may be escaped for a URI, or stand there as they are.
    """
    document, _, fragment = reference.partition("#")
    if document and unquote(document) != unquote(str(root.get("$id", ""))):
        return None
    if fragment and not fragment.startswith("/"):
        return _anchored(unquote(fragment), root)
    for spelling in (unquote(fragment), fragment):
        steps = tuple(step.replace("~1", "/").replace("~0", "~") for step in spelling.split("/")[1:])
        if (found := _followed(steps, root)) is not None:
            return steps, found
    return None


def _followed(steps: Sequence[str], root: object) -> object | None:
    found = root
    for name in steps:
        if isinstance(found, Mapping) and name in found:
            found = found[name]
        elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        else:
            return None
    return found


def are_disjoint(alternatives: Sequence[object], root: Mapping[str, object]) -> bool:
    """Return whether it can be seen that no value fits two of ``alternatives``: by type, constant or discriminator."""
    parts = [_dereferenced(part, root) for part in alternatives]
    pairs = len(parts) * (len(parts) - 1) // 2
    return pairs <= _MAX_PAIRS and all(_exclude(one, other, root) for one, other in itertools.combinations(parts, 2))


def _anchored(anchor: str, root: Mapping[str, object]) -> tuple[tuple[str, ...], object] | None:
    for key in ("$defs", "definitions"):
        named = root.get(key)
        for name, part in named.items() if isinstance(named, Mapping) else ():
            if isinstance(part, Mapping) and part.get("$anchor") == anchor:
                return (key, str(name)), part
    return None


def _dereferenced(schema: object, root: Mapping[str, object]) -> Mapping[str, object] | None:
    for _ in range(_MAX_REFERENCES):
        if not isinstance(schema, Mapping):
            return None
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return schema
        found = resolve(reference, root)
        schema = None if found is None else found[1]
    return None


def _exclude(one: Mapping[str, object] | None, other: Mapping[str, object] | None, root: Mapping[str, object]) -> bool:
    if one is None or other is None:
        return False
    if _differ(one, other):
        return True
    shared = _required(one) & _required(other) if _types(one) | _types(other) <= {"object"} else ()
    pairs = ((_property(one, name, root), _property(other, name, root)) for name in shared)
    return any(part and other_part and _differ(part, other_part) for part, other_part in pairs)


def _differ(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    """Return whether types or constants differ, without a look at nested schemas."""
    values, others = _values(one), _values(other)
    if values is not None and others is not None:
        return not any(value in others for value in values)
    return not _types(one) & _types(other)


def _values(schema: Mapping[str, object]) -> list[tuple[bool, object]] | None:
    """Return the only values that fit, with the kinds of JSON kept apart; None where they are not listed."""
    listed = [schema["const"]] if "const" in schema else schema.get("enum")
    if not isinstance(listed, list) or len(listed) > _MAX_VALUES:
        return None
    return [(isinstance(value, bool), value) for value in listed]


def _types(schema: Mapping[str, object]) -> frozenset[str]:
    given = schema.get("type")
    names = given if isinstance(given, list) else [given]
    values = _values(schema)
    if given is None and values is not None:
        names = [_type_of(value) for _, value in values]
    kinds = frozenset("number" if name == "integer" else str(name) for name in names)
    return kinds if kinds <= _ALL_TYPES else _ALL_TYPES


def _type_of(value: object) -> str:
    kinds = ((bool, "boolean"), (str, "string"), (dict, "object"), (list, "array"), (type(None), "null"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "number")


def _required(schema: Mapping[str, object]) -> frozenset[str]:
    required = schema.get("required")
    return frozenset(name for name in required if isinstance(name, str)) if isinstance(required, list) else frozenset()


def _property(schema: Mapping[str, object], name: str, root: Mapping[str, object]) -> Mapping[str, object] | None:
    properties = schema.get("properties")
    return _dereferenced(properties.get(name), root) if isinstance(properties, Mapping) else None
