"""Finds where the last tokens of a sequence stood before: in its prompt, or in the answer itself. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

NGRAM = 3
"""Tokens that must be equal for a match."""

MAX_MATCH = 32
"""A longer match makes the next token no surer."""


@dataclass(frozen=True, slots=True)
class Match:
    """An earlier place in the sequence whose tokens equal the last ``length`` ones."""

    length: int
    """At least NGRAM, at most MAX_MATCH."""
    start: int
    """Index of the token that followed there."""


class NgramMatcher:
    """The n-gram index of one sequence. A match is followed as long as the sequence goes on as it says.

    While a match is followed, no later place can match more tokens, so the index is not asked and not extended. It is
    extended when it is asked next.
    """

    def __init__(self) -> None:
        """Start with nothing indexed."""
        self._next: dict[tuple[int, ...], int] = {}
        """Index of the token after the last occurrence of each n-gram."""
        self._indexed = NGRAM - 1
        self._length = 0
        self.match: Match | None = None
        """Result of the last ``find``."""
        self.new_tokens = 0
        """Tokens that followed the match of the ``find`` before, if there was one."""
        self.accepted = 0
        """How many of them it predicted, up to the first other."""

    def find(self, tokens: Sequence[int]) -> Match | None:
        """Return the match for the end of ``tokens``, which extend the tokens of the last call."""
        if self.match is not None and self._follow(self.match, tokens):
            return self.match
        total = len(tokens)
        if self._indexed < total - 1:
            first = self._indexed - NGRAM + 1
            ngrams = zip(tokens[first:], tokens[first + 1 :], tokens[first + 2 : -1], strict=False)
            self._next.update(zip(ngrams, range(self._indexed + 1, total), strict=False))
        ngram = tuple(tokens[-NGRAM:])
        start = self._next.get(ngram, total)
        self._next[ngram] = self._indexed = total
        if start < total:
            self._length, self.match = total, Match(_match_length(tokens, start), start)
        return self.match

    def _follow(self, match: Match, tokens: Sequence[int]) -> bool:
        """Advance ``match`` over the new tokens, or drop it if they differ from its prediction."""
        old, start, new = self._length, match.start, len(tokens) - self._length
        accepted = 0
        while accepted < new and tokens[start + accepted] == tokens[old + accepted]:
            accepted += 1
        self._length, self.new_tokens, self.accepted = len(tokens), new, accepted
        self.match = Match(min(MAX_MATCH, match.length + new), start + new) if accepted == new else None
        return accepted == new


def _match_length(tokens: Sequence[int], end: int) -> int:
    """Return how many tokens before ``end`` equal the last ones, up to MAX_MATCH."""
    last = len(tokens)
    length = NGRAM
    while length < min(MAX_MATCH, end) and tokens[end - 1 - length] == tokens[last - 1 - length]:
        length += 1
    return length
