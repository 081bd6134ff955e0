"""ChatGLM3's calls, ``tool_call(city='北京', days=3)``: written, described by a grammar, and read as JSON."""

import json
from collections.abc import Callable, Mapping

from glmserve.chat.tools.schema import embedded, subschemas

_OPEN = "tool_call("
_DEFINITIONS = ("$defs", "definitions")
_LABELS = frozenset(("type", "title", "description", "default", "examples"))
_LIST_KEYS = frozenset((*_LABELS, *_DEFINITIONS, "properties", "required", "additionalProperties", "$schema"))
_WORDS = {"True": "true", "False": "false", "None": "null"}
_BRACKETS = {"(": "[", ")": "]"}

_ESCAPE = r"""\\["\\\/bfnrt]|\\u[0-9a-fA-F]{4}"""
STRING_RULE = rf"""
STRING: /'([^'\\\x00-\x1f]|\\'|{_ESCAPE})*'/ | /"([^"\\\x00-\x1f]|{_ESCAPE})*"/
"""
"""Text in either quotes, with the escapes that Python and JSON have in common."""


def written(arguments: Mapping[str, object]) -> str:
    """Return a call with ``arguments`` as the model was trained to write it."""
    return f"{_OPEN}{', '.join(f'{name}={value!r}' for name, value in arguments.items())})"


def call_rules(rule: str, schema: Mapping[str, object]) -> str:
    """Return Lark rules, the first of them called ``rule``, for a call whose arguments ``schema`` takes.

    A schema that is more than a list of properties becomes ``tool_call(**{…})``, where all of it holds.
    """
    properties = schema.get("properties", {})
    if not isinstance(properties, Mapping) or not _is_list(schema, properties):
        return f'{rule}: "{_OPEN}**" %json {embedded(schema)} ")"\n'
    required = schema.get("required", [])
    shared = {key: schema[key] for key in _DEFINITIONS if key in schema}
    lines = [f'{rule}: "{_OPEN}" {rule}_first_0 ")"']
    for index, (name, value) in enumerate(properties.items()):
        # Two chains of rules: up to the first argument that is written, and after it, where commas are due.
        first, more = f"{rule}_first_{index + 1}", f"{rule}_more_{index + 1}"
        argument = f"{_literal(name + '=')} {rule}_value_{index} {more}"
        optional = not (isinstance(required, list) and name in required)
        lines += [
            f"{rule}_first_{index}: {argument}" + (f" | {first}" if optional else ""),
            f'{rule}_more_{index}: ", " {argument}' + (f" | {more}" if optional else ""),
            f"{rule}_value_{index}: {_value(value, shared)}",
        ]
    return "\n".join((*lines, f'{rule}_first_{len(properties)}: ""', f'{rule}_more_{len(properties)}: ""', ""))


def _is_list(schema: Mapping[str, object], properties: Mapping[str, object]) -> bool:
    """Return whether each argument can be written separately."""
    required = schema.get("required", [])
    return (
        _LIST_KEYS.issuperset(schema)
        and schema.get("additionalProperties", False) is False
        and all(name.isidentifier() for name in properties)
        and isinstance(required, list)
        and all(name in properties for name in required)
        and all(str(part.get("$ref", "#/$defs/")).startswith(("#/$defs/", "#/definitions/"))
                for part in subschemas(schema))
    )  # fmt: skip


def _value(schema: object, shared: Mapping[str, object]) -> str:
    """Return the right side of a rule for one value: as Python writes it where that is simple, else JSON."""
    schema = schema if isinstance(schema, Mapping) else {}
    kind, choices = schema.get("type"), schema.get("enum")
    if kind == "string" and _LABELS.issuperset(schema):
        return "STRING"
    if kind == "boolean" and _LABELS.issuperset(schema):
        return '"True" | "False"'
    if isinstance(choices, list) and choices and {*_LABELS, "enum"}.issuperset(schema):
        texts = [choice for choice in choices if isinstance(choice, str)]
        if len(texts) == len(choices) and kind in (None, "string"):
            return " | ".join(_literal(quoted) for text in texts for quoted in (_single_quoted(text), json.dumps(text)))
    return f"%json {embedded({**schema, **shared})}"


def _single_quoted(text: str) -> str:
    inner = json.dumps(text, ensure_ascii=False)[1:-1]
    return "'" + inner.replace('\\"', '"').replace("'", "\\'") + "'"


def _literal(text: str) -> str:
    """Return ``text`` as a string of a Lark grammar."""
    return json.dumps(text, ensure_ascii=False)


class PythonArguments:
    """Turns a call in Python into the JSON of its arguments, character by character."""

    def __init__(self) -> None:
        """Start anywhere before the call."""
        self._read: Callable[[str], str] = self._before
        self._seen = ""
        self._word = ""
        self._spread = False
        self._quote = ""
        self._escaped = False
        self._depth = 0

    def feed(self, text: str) -> str:
        """Return the JSON as far as ``text`` completes it."""
        return "".join(self._read(character) for character in text)

    def _before(self, character: str) -> str:
        self._seen = (self._seen + character)[-len(_OPEN) :]
        if self._seen == _OPEN:
            self._read = self._opened
        return ""

    def _opened(self, character: str) -> str:
        if character == "*":
            self._spread = True
            return ""
        self._read = self._code
        return ("" if self._spread else "{") + self._code(character)

    def _code(self, character: str) -> str:
        if character.isalnum() or character == "_":
            self._word += character
            return ""
        word, self._word = self._word, ""
        if character == "=" and not self._depth:
            return f"{json.dumps(word, ensure_ascii=False)}: "
        return _WORDS.get(word, word) + self._sign(character)

    def _sign(self, character: str) -> str:
        if character in "'\"":
            self._quote, self._read = character, self._string
            return '"'
        if character in "([{":
            self._depth += 1
        elif character in ")]}":
            if not self._depth:
                self._read = self._after
                return "" if self._spread else "}"
            self._depth -= 1
        return _BRACKETS.get(character, character)

    def _string(self, character: str) -> str:
        if self._escaped:
            self._escaped = False
            if character == "'":
                return character
            return f"\\{character}" if character in '"\\/bfnrtu' else f"\\\\{character}"
        if character == self._quote:
            self._read = self._code
            return '"'
        self._escaped = character == "\\"
        if self._escaped:
            return ""
        return json.dumps(character, ensure_ascii=False)[1:-1]

    def _after(self, _: str) -> str:
        return ""
