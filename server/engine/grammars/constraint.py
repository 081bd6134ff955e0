"""A grammar on a vocabulary: which tokens may come next. llguidance does the work."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import llama_cpp
import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from llguidance.llamacpp import lltokenizer_from_vocab
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask
from numpy.typing import NDArray

from server.engine.grammar import Grammar
from server.engine.grammars.grammar_source import GrammarError, cleaned, internal_form

_MAX_LEXER_STATES = 50_000
"""Of about 2 kB each, for each running sequence; llguidance's own limit is five times that."""


class Constraint:
    """Follows the answer of one sequence through its grammar."""

    def __init__(self, matcher: LLMatcher, stop_ids: frozenset[int], vocab_size: int) -> None:
        """Take over ``matcher``, which is at its start."""
        self._matcher = matcher
        self._stops = np.array(sorted(stop_ids), np.intp)
        self._bits = allocate_token_bitmask(1, vocab_size)
        self._vocab_size = vocab_size

    def copy(self) -> Constraint:
        """Return another one at the same place."""
        stops = frozenset(int(i) for i in self._stops)
        return Constraint(self._matcher.deep_copy(), stops, self._vocab_size)

    @property
    def is_over(self) -> bool:
        """Whether the answer is complete and nothing may be added."""
        return bool(self._matcher.is_stopped())

    def allowed(self) -> NDArray[np.bool_]:
        """Return for each token of the vocabulary whether it may come next.

        Raises:
            GrammarError: a limit was reached, or no token fits.
        """
        if self._matcher.is_stopped() and not self._matcher.is_error():
            mask = np.zeros(self._vocab_size, np.bool_)
            mask[self._stops] = True
            return mask
        fill_next_token_bitmask(self._matcher, self._bits)
        if self._matcher.is_error():
            raise GrammarError(cleaned(self._matcher.get_error()))
        bits = np.unpackbits(self._bits.view(np.uint8)[0], bitorder="little")
        return bits[: self._vocab_size].view(np.bool_)

    def accept(self, token_id: int) -> None:
        """Go on by a token that is allowed. Raises GrammarError."""
        if not self._matcher.is_stopped() and not self._matcher.consume_token(token_id):
            raise GrammarError(cleaned(self._matcher.get_error()))


class ConstraintFactory:
    """Makes constraints on one vocabulary. ``make`` may be called from any thread."""

    def __init__(self, vocab: llama_cpp.llama_vocab_p, stop_ids: frozenset[int]) -> None:
        """Nothing is computed yet: a tokenizer is made with the first grammar."""
        self._vocab = vocab
        self._stop_ids = stop_ids
        self._vocab_size = int(llama_cpp.llama_vocab_n_tokens(vocab))
        self._tokenizer: LLTokenizer | None = None
        self._turn = threading.Lock()
        self._limits = LLParserLimits(max_lexer_states=_MAX_LEXER_STATES, verbose_errors=False)

    def make(self, grammar: Grammar) -> Constraint:
        """Compile ``grammar``. Raises GrammarError."""
        matcher = LLMatcher(self._make_tokenizer(), internal_form(grammar), log_level=0, limits=self._limits)
        if matcher.is_error():
            raise GrammarError(cleaned(matcher.get_error()))
        return Constraint(matcher, self._stop_ids, self._vocab_size)

    def warm_up(self) -> None:
        """Make the tokenizer now: 0.6 s for ChatGLM2's vocabulary."""
        self._make_tokenizer()

    def _make_tokenizer(self) -> LLTokenizer:
        with self._turn:
            if self._tokenizer is None:
                self._tokenizer = lltokenizer_from_vocab(self._vocab, eos_token=self._end_tokens())
            return self._tokenizer

    def _end_tokens(self) -> list[int]:
        first = int(llama_cpp.llama_vocab_eos(self._vocab))
        return [first, *sorted(self._stop_ids - {first})]


def walk(constraint: Constraint, choose: Iterable[float]) -> None:
    """Follow allowed tokens, one for each number from 0 to 1 in ``choose``. Raises GrammarError."""
    for number in choose:
        ids = np.flatnonzero(constraint.allowed())
        if not len(ids):
            raise GrammarError("no token of the model's vocabulary fits")
        constraint.accept(int(ids[int(number * len(ids)) % len(ids)]))
