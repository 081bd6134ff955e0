"""The values of a JSON schema in a few words, for a table of fields."""

from pydantic.json_schema import JsonSchemaValue


def value_text(schema: JsonSchemaValue) -> str:
    """Return the types and bounds of ``schema``; null is left out, because every optional field takes it."""
    if "anyOf" in schema:
        texts = [value_text(part) for part in schema["anyOf"] if part.get("type") != "null"]
        return " or ".join(dict.fromkeys(texts))
    if "enum" in schema or "const" in schema:
        return " or ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]) if value is not None)
    kind = schema.get("type", "object" if "$ref" in schema else "any")
    if kind == "array":
        return _array(schema)
    bounds = _range(schema) if kind in ("integer", "number") else _size(schema)
    return f"{kind}{bounds}"


def _array(schema: JsonSchemaValue) -> str:
    items = value_text(schema.get("items", {}))
    return f"array{_size(schema)}" if items == "any" else f"array{_size(schema)} of {items}"


def _range(schema: JsonSchemaValue) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if "exclusiveMinimum" in schema:
        return f" > {schema['exclusiveMinimum']}" + ("" if high is None else f", ≤ {high}")
    if low is not None and high is not None:
        return f" {low} to {high}"
    return "" if low is None else f" ≥ {low}"


def _size(schema: JsonSchemaValue) -> str:
    least = max(schema.get(key, 0) for key in ("minItems", "minLength", "minProperties"))
    most = next((schema[key] for key in ("maxItems", "maxLength", "maxProperties") if key in schema), None)
    bounds = [f"≥ {least}"] if least else []
    bounds += [] if most is None else [f"≤ {most}"]
    return f" (length {', '.join(bounds)})" if bounds else ""
