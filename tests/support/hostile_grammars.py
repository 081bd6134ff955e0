"""Grammars that cannot be used: wrong, not supported, or made to hang or crash whoever compiles them."""

import json

from glmserve.engine.params import Grammar, GrammarKind


def schema_grammar(schema: object) -> Grammar:
    return Grammar(GrammarKind.JSON_SCHEMA, json.dumps(schema))


def _regex(source: str) -> Grammar:
    return Grammar(GrammarKind.REGEX, source)


def _lark(*lines: str) -> Grammar:
    return Grammar(GrammarKind.LARK, "\n".join(lines))


_PATTERNS = [f".*a.{{{i}}}" for i in range(20, 60)]
_RING = {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}
_UNIQUE = {"a": {"type": "array", "uniqueItems": True}}

HOSTILE = {
    "nested groups": _regex("(" * 30_000 + "a" + ")" * 30_000),
    "open groups": _regex("(" * 60_000),
    "stars": _regex("^****"),
    "repeated repeats": _regex("(a{1000}){1000}"),
    "half an escape": _regex("a\\"),
    "half an escape behind a whole one": _regex("\\\\\\"),
    "look-ahead": _regex("(?=a)b"),
    "nested rules": _lark("start: " + "(" * 30_000 + '"a"' + ")" * 30_000),
    "intersected terminals": _lark('start: "x" A', "A: " + " & ".join(f"/{pattern}/" for pattern in _PATTERNS)),
    "chain of rules": _lark("start: r0", *(f"r{i}: r{i + 1}" for i in range(100_000)), 'r100000: "a"'),
    "doubling terminals": _lark("start: R0", *(f"R{i}: R{i + 1} R{i + 1}" for i in range(60)), 'R60: "a"'),
    "no grammar": _lark(""),
    "no such rule": _lark("start: missing"),
    "deep schema": Grammar(GrammarKind.JSON_SCHEMA, '{"items":' * 5000 + "{}" + "}" * 5000),
    "reference to itself": schema_grammar({"$ref": "#"}),
    "references in a ring": schema_grammar({"$defs": _RING, "$ref": "#/$defs/a"}),
    "huge enum": schema_grammar({"enum": [f"value {i}" for i in range(20_000)]}),
    "intersected patterns": schema_grammar({"type": "string", "allOf": [{"pattern": p} for p in _PATTERNS]}),
    "many properties": schema_grammar({"properties": {f"p{i}": {"type": "string"} for i in range(2000)}}),
    "not unique": schema_grammar({"type": "object", "properties": _UNIQUE}),
    "not a type": schema_grammar({"type": "thing"}),
    "remote reference": schema_grammar({"$ref": "http://127.0.0.1:1/x"}),
    "contradiction": schema_grammar({"type": "string", "minLength": 5, "maxLength": 2}),
    "no schema": Grammar(GrammarKind.JSON_SCHEMA, "[1]"),
    "no JSON": Grammar(GrammarKind.JSON_SCHEMA, "{"),
}
