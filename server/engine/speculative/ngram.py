"""Guesses how an answer goes on by where its last tokens stood before: in the prompt, or in the answer itself. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

NGRAM = 3
"""Tokens that must be equal before a place counts as found."""

MAX_MATCH = 32
"""A match longer than this is as sure as it gets."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """A place where the last ``length`` tokens stood before."""

    length: int
    """At least NGRAM, at most MAX_MATCH."""
    start: int
    """Index of the token that followed there."""


class PromptLookup:
    """The index over one sequence's tokens. It is caught up when asked, so a sequence that never asks pays nothing."""

    def __init__(self) -> None:
        """Start with nothing indexed."""
        self._ends: dict[tuple[int, ...], int] = {}
        self._indexed = NGRAM - 1
        self._cursor = 0

    def find(self, tokens: Sequence[int]) -> Lookup | None:
        """Return the best place for the end of ``tokens``: where the last guess goes on, or the latest one.

        ``tokens`` are those of the call before and more.
        """
        candidates = {self._cursor + len(tokens) - self._indexed - 1} if self._cursor else set()
        for end in range(self._indexed + 1, len(tokens)):
            self._ends[tuple(tokens[end - NGRAM : end])] = end
        self._indexed = max(self._indexed, len(tokens) - 1)
        latest = self._ends.get(tuple(tokens[-NGRAM:]))
        if latest is not None:
            candidates.add(latest)
        found = [Lookup(_match_length(tokens, end), end) for end in candidates if end < len(tokens)]
        best = max(found, key=lambda lookup: lookup.length, default=None)
        if best is None or best.length < NGRAM:
            self._cursor = 0
            return None
        self._cursor = best.start
        return best


def _match_length(tokens: Sequence[int], end: int) -> int:
    """How many tokens before ``end`` equal the last ones, up to MAX_MATCH."""
    last = len(tokens)
    length = 0
    while length < min(MAX_MATCH, end) and tokens[end - 1 - length] == tokens[last - 1 - length]:
        length += 1
    return length
