"""Check that alternatives of a JSON schema exclude each other, with references resolved. Pure."""

import itertools
from collections.abc import Mapping, Sequence
from urllib.parse import unquote

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
