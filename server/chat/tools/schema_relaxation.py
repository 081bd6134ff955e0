"""JSON schemas as callers write them, made into schemas that the grammar engine can hold an answer to. Pure.

What means the same in another form is rewritten. What cannot be held is left out, so that the result takes all that
the given schema takes, and more; the caller of ``relaxed`` is told each place.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import quote

from glmserve.chat.tools.schema import are_disjoint, resolve
from glmserve.chat.tools.schema_patterns import is_supported, without_look_around

Json = object
_Rule = Callable[["_Relaxation", dict[str, object], str], None]

_FORMATS = frozenset(("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"))
"""Formats that the engine supports. Any other format is an annotation."""
_TYPES = frozenset(("string", "number", "integer", "boolean", "object", "array", "null"))
_OTHER_TYPES = MappingProxyType(
    {"float": "number", "double": "number", "int": "integer", "long": "integer", "str": "string", "text": "string",
     "bool": "boolean", "dict": "object", "map": "object", "list": "array", "tuple": "array", "none": "null"}
)  # fmt: skip
_ANY_TYPES = frozenset(("any", "unknown", "mixed"))
_UNHELD = (
    "not", "if", "then", "else", "dependencies", "dependentRequired", "dependentSchemas", "propertyNames",
    "unevaluatedProperties", "unevaluatedItems", "contains", "minContains", "maxContains", "uniqueItems",
    "$dynamicRef", "$recursiveRef",
)  # fmt: skip
_COMBINING = ("not", "if", "dependentSchemas", "dependencies", "allOf", "anyOf", "oneOf", "$ref", "$dynamicRef")
_OPENING = ("not", "if", "dependentSchemas", "dependencies")
_ALWAYS_TRUE: Mapping[str, tuple[Json, ...]] = MappingProxyType(
    {
        "uniqueItems": (False,),
        "unevaluatedProperties": (True, {}),
        "unevaluatedItems": (True, {}),
        "propertyNames": (True, {}, {"type": "string"}),
        "dependencies": ({},),
        "dependentRequired": ({},),
        "dependentSchemas": ({},),
        "not": (False,),
    }
)
"""Values of these keywords that exclude nothing."""
_MAY_BE_NULL = frozenset(("const", "default", "example", "examples", "title", "description"))
_WHOLE_NUMBERS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_MAX_BOUND = 2**63
"""Past it the engine has no expression for a bound."""
_FLOAT_EXTENT = 3.4e38
"""Of 32-bit numbers: such bounds say how a number is stored."""
_ONE = ("items", "additionalProperties", "additionalItems")
_MANY = ("prefixItems", "anyOf", "oneOf", "allOf")
_NAMED = ("properties", "patternProperties", "$defs", "definitions")
_DIALECTS = "//json-schema.org/"
_NEVER: tuple[Json, ...] = ({"not": {}}, {"not": True})


@dataclass(frozen=True, slots=True)
class Relaxed:
    """A schema that can be held, and where it takes more than the one that was given."""

    schema: Mapping[str, object]
    left_out: tuple[str, ...] = ()
    """Paths, such as ``properties.tags.uniqueItems``."""


def relaxed(schema: Mapping[str, object]) -> Relaxed:
    """Return ``schema`` without the keywords that a grammar cannot enforce. Raises RecursionError if it is too deep."""
    work = _Relaxation(schema)
    result = work.of_schema(dict(schema), "")
    return Relaxed(result if isinstance(result, dict) else schema, tuple(dict.fromkeys(work.left_out)))


class _Relaxation:
    def __init__(self, root: Mapping[str, object]) -> None:
        self.root = root
        self.left_out: list[str] = []

    def of_schema(self, schema: Json, path: str) -> Json:
        if isinstance(schema, bool):
            return schema
        if schema is None:
            return {}
        if not isinstance(schema, dict):
            self.left_out.append(path)
            return {}
        if schema in _NEVER:
            return False
        result = {key: value for key, value in schema.items() if value is not None or key in _MAY_BE_NULL}
        for rule in _RULES:
            rule(self, result, path)
        _identify(result)
        self._descend(result, path)
        return result

    def leave_out(self, schema: dict[str, object], key: str, path: str) -> None:
        del schema[key]
        self.left_out.append(_under(path, key))

    def _descend(self, schema: dict[str, object], path: str) -> None:
        for key in _ONE:
            value = schema.get(key)
            if isinstance(value, list):
                schema[key] = self._of_list(value, _under(path, key))
            elif key in schema:
                schema[key] = self.of_schema(value, _under(path, key))
        for key in _MANY:
            value = schema.get(key)
            if isinstance(value, list):
                schema[key] = self._of_list(value, _under(path, key))
        for key in _NAMED:
            value = schema.get(key)
            if isinstance(value, dict):
                inner = _under(path, key)
                schema[key] = {name: self.of_schema(part, _under(inner, name)) for name, part in value.items()}
        if isinstance(alternatives := schema.get("anyOf"), list):
            possible = [part for part in alternatives if part is not False]
            schema["anyOf"] = possible or alternatives

    def _of_list(self, parts: list[Json], path: str) -> list[Json]:
        return [self.of_schema(part, f"{path}[{index}]") for index, part in enumerate(parts)]


def _types(work: _Relaxation, schema: dict[str, object], path: str) -> None:
    """Write types as JSON schema has them; any type is no ``type``."""
    if "type" not in schema:
        return
    given = schema["type"]
    names = given if isinstance(given, list) else [given]
    known = [_type_name(name) for name in names]
    if "any" in known or not known:
        del schema["type"]
    elif None in known:
        work.leave_out(schema, "type", path)
    else:
        schema["type"] = known if isinstance(given, list) else known[0]


def _type_name(name: Json) -> str | None:
    """Return the type that ``name`` means, "any" for all of them, None for none that is known."""
    if not isinstance(name, str):
        return "null" if name is None else None
    lower = name.lower()
    if lower in _ANY_TYPES:
        return "any"
    return lower if lower in _TYPES else _OTHER_TYPES.get(lower)


def _numbers(work: _Relaxation, schema: dict[str, object], path: str) -> None:
    for key in _BOUNDS:
        value = schema.get(key)
        if not isinstance(value, int | float) or abs(value) < _MAX_BOUND:
            continue
        if abs(value) >= _FLOAT_EXTENT:
            del schema[key]
        else:
            work.leave_out(schema, key, path)
    for key in _WHOLE_NUMBERS:
        value = schema.get(key)
        if isinstance(value, float) and value.is_integer():
            schema[key] = int(value)


def _strings(work: _Relaxation, schema: dict[str, object], path: str) -> None:
    if schema.get("format") not in _FORMATS:
        schema.pop("format", None)
    pattern = schema.get("pattern")
    if not isinstance(pattern, str) or is_supported(pattern):
        return
    work.leave_out(schema, "pattern", path)
    if (rest := without_look_around(pattern)) is not None:
        schema["pattern"] = rest


def _property_names(_work: _Relaxation, schema: dict[str, object], _path: str) -> None:
    """Write the names that an object without named properties may have as its properties, which means the same."""
    names = schema.get("propertyNames")
    if not isinstance(names, dict) or schema.get("properties") or schema.get("patternProperties"):
        return
    values = schema.get("additionalProperties", True)
    rest = {key: value for key, value in names.items() if (key, value) != ("type", "string")}
    listed, pattern = rest.get("enum"), rest.get("pattern")
    if isinstance(listed, list) and listed and rest.keys() == {"enum"} and all(isinstance(one, str) for one in listed):
        schema["properties"] = dict.fromkeys(listed, values)
    elif isinstance(pattern, str) and rest.keys() == {"pattern"} and is_supported(pattern):
        schema["patternProperties"] = {pattern: values}
    else:
        return
    del schema["propertyNames"]
    schema["additionalProperties"] = False


def _pattern_properties(work: _Relaxation, schema: dict[str, object], path: str) -> None:
    named = schema.get("patternProperties")
    if not isinstance(named, dict) or all(map(is_supported, named)):
        return
    work.leave_out(schema, "patternProperties", path)
    if schema.get("additionalProperties", True) is not True:
        work.leave_out(schema, "additionalProperties", path)


def _properties(work: _Relaxation, schema: dict[str, object], path: str) -> None:
    for key in ("properties", "required"):
        if key in schema and not isinstance(schema[key], dict if key == "properties" else list):
            # Draft 3 had required as a boolean, of the property that it stands in.
            schema.pop(key) if isinstance(schema[key], bool) else work.leave_out(schema, key, path)
    named, required = schema.get("properties", {}), schema.get("required", [])
    assert isinstance(named, dict)
    assert isinstance(required, list)
    for key in ("minProperties", "maxProperties"):
        if key in schema and not all(name in required for name in named):
            work.leave_out(schema, key, path)


def _unheld(work: _Relaxation, schema: dict[str, object], path: str) -> None:
    if schema.get("unevaluatedProperties") is False and not any(key in schema for key in _COMBINING):
        schema.setdefault("additionalProperties", schema.pop("unevaluatedProperties"))
    if any(key in schema for key in _OPENING) and ("properties" in schema or schema.get("type") == "object"):
        schema.setdefault("additionalProperties", True)  # they may ask for properties that are not named here
    for key in _UNHELD:
        if key not in schema:
            continue
        if schema[key] in _ALWAYS_TRUE.get(key, ()):
            del schema[key]
        else:
            work.leave_out(schema, key, path)


def _one_of(work: _Relaxation, schema: dict[str, object], path: str) -> None:
    """Write ``oneOf`` as ``anyOf``, which means the same where no two alternatives take the same value."""
    alternatives = schema.get("oneOf")
    if not isinstance(alternatives, list) or not alternatives:
        return
    if not are_disjoint(alternatives, work.root):
        work.left_out.append(_under(path, "oneOf"))
    del schema["oneOf"]
    if "anyOf" not in schema:
        schema["anyOf"] = alternatives
        return
    both = schema.get("allOf", [])
    schema["allOf"] = [*(both if isinstance(both, list) else []), {"anyOf": alternatives}]


def _references(work: _Relaxation, schema: dict[str, object], path: str) -> None:
    """Write references within the schema as escaped pointers; leave out references that lead nowhere."""
    reference = schema.get("$ref")
    if reference is None:
        return
    found = resolve(reference, work.root) if isinstance(reference, str) else None
    if found is None:
        work.leave_out(schema, "$ref", path)
        return
    steps = (step.replace("~", "~0").replace("/", "~1") for step in found[0])
    pointer = "".join(f"/{quote(step, safe='~$-_.!*+,;=:@')}" for step in steps)
    schema["$ref"] = f"{_escaped(str(reference).partition('#')[0])}#{pointer}"


def _identify(schema: dict[str, object]) -> None:
    """Escape characters that URIs do not have, such as Chinese, and remove definitions without a reference.

    An anchor of such a name is found by its pointer. A dialect that the engine does not know is read as JSON schema.
    """
    if isinstance(identifier := schema.get("$id"), str):
        schema["$id"] = _escaped(identifier)
    if "$schema" in schema and _DIALECTS not in str(schema["$schema"]):
        del schema["$schema"]
    if not str(schema.get("$anchor", "")).isascii():
        del schema["$anchor"]


def _escaped(uri: str) -> str:
    return quote(uri, safe="%:/?#[]@!$&'()*+,;=~")


_RULES: tuple[_Rule, ...] = (
    _types,
    _numbers,
    _strings,
    _property_names,
    _pattern_properties,
    _properties,
    _unheld,
    _one_of,
    _references,
)


def _under(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
