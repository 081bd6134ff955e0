"""The text of an answer that may call tools instead, as a rule of a Lark grammar. Pure."""

import json
import re

from glmserve.engine.params import WHITE_SPACE, Grammar, GrammarKind

_FREE = r"/(.|\n)*/"
_REGEX_PARTS = re.compile(r"\\.|[/\n]", re.DOTALL)
_IN_LITERAL = {"/": r"\/", "\n": r"\n", "\\\n": r"\n"}


def text_rule(asked: Grammar | None) -> str:
    """Return the rule ``text`` for the format that was ``asked`` for; None allows any text."""
    if asked is None:
        return f"text: {_FREE}\n"
    return f"text: {_SIDES[asked.kind](asked.source)}\n"


def _schema(source: str) -> str:
    schema = json.loads(source)
    if isinstance(schema, dict):
        # Without tools a schema has this white space, too.
        schema = {**schema, "x-guidance": {"whitespace_pattern": WHITE_SPACE}}
    return f"%json {json.dumps(schema, ensure_ascii=False)}"


def _regex(source: str) -> str:
    escaped = _REGEX_PARTS.sub(lambda found: _IN_LITERAL.get(found[0], found[0]), source)
    # Two slashes would begin a comment.
    return f"/{escaped}/" if escaped else '""'


def _lark(source: str) -> str:
    return f"%lark {{\n{source}\n}}"


_SIDES = {GrammarKind.JSON_SCHEMA: _schema, GrammarKind.REGEX: _regex, GrammarKind.LARK: _lark}
