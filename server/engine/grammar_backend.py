"""Grammars: which tokens may come next. llguidance does the work, and compiles in a thread.

The first part needs no vocabulary: llguidance's form of each kind of grammar, rejected features, and its messages.
"""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache

import llama_cpp
import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from llguidance.llamacpp import lltokenizer_from_vocab
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask
from numpy.typing import NDArray

from glmserve.engine.params import WHITE_SPACE, Grammar, GrammarKind, SamplingParams, size_problem

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


_MAX_LEXER_STATES = 50_000
"""Of about 2 kB each, for each running sequence; llguidance's own limit is five times that."""
_MAX_STEP_ITEMS = 6_000
"""Parser items for one mask. A schema of 450 optional properties needs 4,000; llguidance's own limit is 50,000, which
an ambiguous grammar turns into 13 s for one mask."""


class MaskBudget:
    """The processor time that a constraint may use: some at once, and a little more for each token."""

    AT_ONCE = 0.5
    """Seconds. No unambiguous grammar was seen to need more than 0.04 s for one token."""
    PER_TOKEN = 0.002
    """Seconds. Schemas need 0.0001 s on average, on a vocabulary of 64,000 tokens."""

    def __init__(self, clock: Callable[[], float] = time.thread_time) -> None:
        """``clock`` gives the seconds of processor time of the calling thread."""
        self._clock = clock
        self._used = 0.0
        self._tokens = 0

    @contextmanager
    def measured(self, *, tokens: int = 0) -> Iterator[None]:
        """Measure the processor time of the block, which adds ``tokens`` to the answer. Raises MaskTooSlow after it."""
        started = self._clock()
        yield
        self._used += self._clock() - started
        self._tokens += tokens
        if self._used > self.AT_ONCE + self.PER_TOKEN * self._tokens:
            raise MaskTooSlow(self._used, self._tokens)


class Constraint:
    """Follows the answer of one sequence through its grammar."""

    def __init__(self, matcher: LLMatcher, stop_ids: frozenset[int], vocab_size: int) -> None:
        """Take over ``matcher``, which is at its start."""
        self._budget = MaskBudget()
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
            MaskTooSlow: this answer has used up its time.
        """
        if self._matcher.is_stopped() and not self._matcher.is_error():
            mask = np.zeros(self._vocab_size, np.bool_)
            mask[self._stops] = True
            return mask
        with self._budget.measured():
            fill_next_token_bitmask(self._matcher, self._bits)
        if self._matcher.is_error():
            raise GrammarError(cleaned(self._matcher.get_error()))
        bits = np.unpackbits(self._bits.view(np.uint8)[0], bitorder="little")
        return bits[: self._vocab_size].view(np.bool_)

    def without_stops(self, allowed: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return ``allowed`` without the tokens that end an answer."""
        going_on: NDArray[np.bool_] = allowed.copy()
        going_on[self._stops] = False
        return going_on

    def accept(self, token_id: int) -> None:
        """Go on by a token that is allowed. Raises GrammarError."""
        if self._matcher.is_stopped():
            return
        with self._budget.measured(tokens=1):
            accepted = self._matcher.consume_token(token_id)
        if not accepted:
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
        self._limits = LLParserLimits(
            max_lexer_states=_MAX_LEXER_STATES, step_max_items=_MAX_STEP_ITEMS, verbose_errors=False
        )

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
    """Follow allowed tokens, one for each number from 0 to 1 in ``choose``, to where the answer has to end.

    Raises:
        GrammarError: there is no such way.
    """
    for number in choose:
        allowed = constraint.allowed()
        if not allowed.any():
            raise GrammarError("no token of the model's vocabulary fits")
        ids = np.flatnonzero(constraint.without_stops(allowed))
        if not len(ids):
            return
        constraint.accept(int(ids[int(number * len(ids)) % len(ids)]))


_REMEMBERED = 64
"""Compiled grammars that are kept: many requests come with the same one."""


class PreparedConstraints:
    """``prepare`` the constraint of a request, wait until that is done, and ``take`` it."""

    def __init__(self, factory: ConstraintFactory) -> None:
        """No thread is started yet."""
        self._factory = factory
        self._thread = ThreadPoolExecutor(1, "grammars")
        self._compiled: OrderedDict[Grammar, Constraint] = OrderedDict()
        self._prepared: dict[int, Future[Constraint]] = {}

    @property
    def request_ids(self) -> frozenset[int]:
        """Requests with a prepared constraint that they have not taken."""
        return frozenset(self._prepared)

    def prepare(self, request_id: int, params: SamplingParams, answer_ids: tuple[int, ...] = ()) -> Future[Constraint]:
        """Compile the request's grammar and advance it by ``answer_ids``; errors are the future's exception."""
        assert params.grammar is not None, "a request without a grammar"
        future = self._prepared[request_id] = self._thread.submit(self._make, params.grammar, answer_ids)
        return future

    def take(self, request_id: int) -> Constraint | None:
        """Return the prepared constraint of the request, if there is one."""
        future = self._prepared.pop(request_id, None)
        return None if future is None else future.result()

    def drop(self, request_id: int) -> None:
        """Drop the prepared constraint of the request, if there is one."""
        future = self._prepared.pop(request_id, None)
        if future is not None:
            future.cancel()

    def close(self) -> None:
        """Wait for running compilations, after which the vocabulary may be freed."""
        self._thread.shutdown(cancel_futures=True)

    def _make(self, grammar: Grammar, answer_ids: tuple[int, ...]) -> Constraint:
        constraint = self._compiled.get(grammar)
        if constraint is None:
            constraint = self._compiled[grammar] = self._factory.make(grammar)
        self._compiled.move_to_end(grammar)
        while len(self._compiled) > _REMEMBERED:
            self._compiled.popitem(last=False)
        followed = constraint.copy()
        for token in answer_ids:
            followed.accept(token)
        return followed
