"""Grammars for llguidance: its form of each kind, rejected features, and its messages. Needs no vocabulary."""

import re
from functools import lru_cache

from llguidance import LLMatcher, LLTokenizer

from glmserve.engine.params import WHITE_SPACE, Grammar, GrammarKind, size_problem

_LITERAL = re.compile(r'"(?:\\.|[^"\\])*"|/(?:\\.|[^/\\\n])+/|(?://|#)[^\n]*', re.DOTALL)
_HALF_ESCAPE = re.compile(r"(?<!\\)\\(?:\\\\)*\Z")
_SOURCE_LINES = re.compile(r"\n *\d+ \|.*", re.DOTALL)


class GrammarError(Exception):
    """The grammar cannot be used; the message is one line with the reason."""


class MaskTooSlow(GrammarError):
    """The tokens that may come next take too long to compute, as where a text can be read in very many ways."""

    def __init__(self, seconds: float, tokens: int) -> None:
        """``seconds`` of processor time were used for ``tokens`` of the answer."""
        super().__init__(
            f"it is too ambiguous: it took {seconds:.2f} s to compute which tokens may come next, for {tokens} tokens; "
            "write it so that each text can be read in one way only"
        )


def internal_form(grammar: Grammar) -> str:
    """Return ``grammar`` in llguidance's own format. Raises GrammarError."""
    check_source(grammar)
    try:
        return str(_SOURCES[grammar.kind](grammar.source))
    except ValueError as error:
        raise GrammarError(cleaned(str(error))) from None


def fault(grammar: Grammar) -> str:
    """Return why ``grammar`` cannot be used on any vocabulary, or nothing; for grammars that are no caller's."""
    try:
        return cleaned(LLMatcher.validate_grammar(internal_form(grammar), _bytes()))
    except GrammarError as error:
        return str(error)


@lru_cache
def _bytes() -> LLTokenizer:
    return LLTokenizer("byte")


def _json_grammar(source: str) -> str:
    return str(LLMatcher.grammar_from_json_schema(source, overrides={"whitespace_pattern": WHITE_SPACE}))


_SOURCES = {
    GrammarKind.JSON_SCHEMA: _json_grammar,
    GrammarKind.REGEX: LLMatcher.grammar_from_regex,
    GrammarKind.LARK: LLMatcher.grammar_from_lark,
}


def check_source(grammar: Grammar) -> None:
    """Reject grammars that are impossible without compiling them. Raises GrammarError."""
    if problem := size_problem(grammar):
        raise GrammarError(problem)
    # llguidance would drop that backslash, and hold the answer to another expression.
    if grammar.kind is GrammarKind.REGEX and _HALF_ESCAPE.search(grammar.source):
        raise GrammarError("the regular expression ends in a backslash that escapes nothing")
    # llguidance's limits do not count the work that these two make while an answer is written.
    if grammar.kind is GrammarKind.LARK and not grammar.trusted and re.search("[&~]", _LITERAL.sub("", grammar.source)):
        raise GrammarError("the operators & and ~ are not supported")


def cleaned(message: str) -> str:
    """Return llguidance's message as one line that can be shown: it quotes megabytes, and its own state."""
    if "NoExtension" in message:
        return "it allows no text at all"
    first = _SOURCE_LINES.sub("", message).replace("<non-verbose/>", "")
    lines = [line.strip(" ^") for line in first.splitlines()]
    text = " ".join(line for line in lines if line)
    return text if len(text) <= 300 else f"{text[:150]} … {text[-150:]}"
