"""Valid values of a JSON schema: each alternative, and both ends of each range."""

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]


def values_of(schema: Schema, schemas: Schema) -> Iterator[object]:
    """Yield valid values of ``schema``, whose references are to the components ``schemas``; the simplest one first."""
    if "$ref" in schema:
        yield from values_of(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    elif "anyOf" in schema:
        for part in schema["anyOf"]:
            yield from values_of(part, schemas)
    elif "enum" in schema or "const" in schema:
        yield from schema.get("enum", [schema.get("const")])
    else:
        yield from _of_type(schema, schemas)


def _of_type(schema: Schema, schemas: Schema) -> Iterator[object]:
    match schema.get("type", "object"):
        case "null":
            yield None
        case "boolean":
            yield from (True, False)
        case "integer" | "number" as kind:
            yield from _numbers(schema, 1 if kind == "integer" else 0.5)
        case "string":
            yield "1" if "pattern" in schema else "x" * max(1, schema.get("minLength", 0))
        case "array":
            items = list(values_of(schema["items"], schemas)) if schema.get("items") else ["x"]
            most = schema.get("maxItems", len(items))
            yield items[:1] * min(most, max(1, schema.get("minItems", 0)))
            yield from ([item] for item in items[1:] if most)
        case _:
            yield from _objects(schema, schemas)


def _numbers(schema: Schema, step: float) -> Iterator[float]:
    low = schema.get("minimum", schema.get("exclusiveMinimum", 0) + step)
    high = schema.get("maximum", schema.get("exclusiveMaximum", low + 2 * step) - step)
    yield from dict.fromkeys((low, high))


def _objects(schema: Schema, schemas: Schema) -> Iterator[object]:
    """Yield the object with the required fields alone, then one for each further value of each field."""
    found = {name: list(values_of(part, schemas)) for name, part in schema.get("properties", {}).items()}
    least = {name: found[name][0] for name in schema.get("required", ())}
    # The pattern of a token id.
    for part in schema.get("patternProperties", {}).values():
        least["5"] = next(values_of(part, schemas))
    yield least
    for name, values in found.items():
        yield from ({**least, name: value} for value in values)
