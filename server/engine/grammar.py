"""The grammar of an answer, as text; compiled in the engine process. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

WHITE_SPACE = r" |\n {0,12}"
"""At each place of a JSON text that has any: enough to indent, and an end for a model that repeats itself."""
MAX_BYTES = 65536
"""Of a grammar's source. Chains of rules overflow llguidance's stack at several times that."""


class GrammarKind(str, Enum):
    """How a grammar is written; anything else becomes LARK, in llguidance's dialect, before it comes here."""

    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    LARK = "lark"


@dataclass(frozen=True, slots=True)
class Grammar:
    """A constraint on the whole answer of a sequence."""

    kind: GrammarKind
    source: str
    """The JSON text of a schema, a regular expression, or a Lark grammar, which may embed schemas as ``%json {…}``."""
    trusted: bool = False
    """It is the operator's and not a caller's, so that operators whose cost has no bound are let through."""


def size_problem(grammar: Grammar) -> str:
    """Return why ``grammar`` is too large, or nothing. Costs the same for any size."""
    characters = len(grammar.source)
    size = characters if characters > MAX_BYTES else len(grammar.source.encode(errors="surrogatepass"))
    return f"{size} bytes, which is more than the {MAX_BYTES} that a grammar may have" if size > MAX_BYTES else ""


def one_of(texts: Iterable[str]) -> Grammar:
    """Return the grammar of an answer that is one of ``texts``."""
    return Grammar(GrammarKind.REGEX, "|".join(map(re.escape, texts)))
