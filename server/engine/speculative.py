"""Decides the number of draft tokens of a step, by measured cost and acceptance rate. Pure.

A draft is what followed the last tokens where they stood before, in the prompt or in the answer. It is computed in the
same batch and sampled as long as it is accepted; the rest is removed from the cells. The answer stays the same.

The acceptance rate is learnt without cost: each match is compared with the tokens that follow, whether they were
drafted or not. Drafts are paid out of a credit. A share of the decoding time and the time that drafts save fill it, so
speculation that does not pay turns itself off after it has cost ``SHARE`` of the time. A sequence without a match
costs one look into its index a step.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Mapping
from collections.abc import Sequence as Ordered
from dataclasses import dataclass
from itertools import accumulate, pairwise
from operator import itemgetter

from glmserve.engine.sequence import Sequence

NGRAM = 3
"""Tokens that must be equal for a match."""

MAX_MATCH = 32
"""A longer match makes the next token no surer."""


@dataclass(frozen=True, slots=True)
class NgramMatch:
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
        self.match: NgramMatch | None = None
        """Result of the last ``find``."""
        self.new_tokens = 0
        """Tokens that followed the match of the ``find`` before, if there was one."""
        self.accepted = 0
        """How many of them it predicted, up to the first other."""

    def find(self, tokens: Ordered[int]) -> NgramMatch | None:
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
            self._length, self.match = total, NgramMatch(_match_length(tokens, start), start)
        return self.match

    def _follow(self, match: NgramMatch, tokens: Ordered[int]) -> bool:
        """Advance ``match`` over the new tokens, or drop it if they differ from its prediction."""
        old, start, new = self._length, match.start, len(tokens) - self._length
        accepted = 0
        while accepted < new and tokens[start + accepted] == tokens[old + accepted]:
            accepted += 1
        self._length, self.new_tokens, self.accepted = len(tokens), new, accepted
        self.match = NgramMatch(min(MAX_MATCH, match.length + new), start + new) if accepted == new else None
        return accepted == new


def _match_length(tokens: Ordered[int], end: int) -> int:
    """Return how many tokens before ``end`` equal the last ones, up to MAX_MATCH."""
    last = len(tokens)
    length = NGRAM
    while length < min(MAX_MATCH, end) and tokens[end - 1 - length] == tokens[last - 1 - length]:
        length += 1
    return length


FASTER = 0.25
SLOWER = 0.05
"""Weights of an observation below (``FASTER``) and above the estimate: a step may be slow by chance, but never fast."""

STALE = 256
"""Observations after which a size that was not among them is forgotten: one slow step must not count for ever."""

FIRST = 0.5
"""Weight of the first observation of a size against the line: one slow step turned drafts off for ``STALE`` steps."""

_PROMPT_STEP = 48
"""Tokens from which a step of prompt tokens alone gives the cost of a large batch."""

_PROMPT_STEPS = 4
"""The fastest of this many gives it: one slow step, the first of a file above all, turned drafts off."""


class StepCost:
    """Seconds of a step of decoding sequences and their drafts.

    Between two sizes that were observed the cost is taken as linear, and beyond the largest one as what the largest
    known step, of a prompt, makes it: batches are bound by memory first and by arithmetic later, so this errs little
    (two cores, 6B q4_0: a batch of 8 costs 5 single ones, the line through 1 and 512 says 4.6).
    """

    def __init__(self) -> None:
        """Start with nothing known."""
        self._seconds: dict[int, float] = {}
        self._seen_at: dict[int, int] = {}
        self._observations = 0
        self._prompts: deque[tuple[float, float]] = deque(maxlen=_PROMPT_STEPS)
        self._points: list[tuple[float, float]] | None = None
        """The line, if it was drawn since the last observation."""

    def observe(self, tokens: int, seconds: float, *, prompt: bool = False) -> None:
        """Learn from a step; ``prompt`` says that it was of prompt tokens alone."""
        if prompt and tokens < _PROMPT_STEP:
            return
        if prompt:
            self._points = None
            self._prompts.append((tokens, seconds))
            return
        # Sizes are exact up to 7, then rounded to a quarter, so that rare sizes share observations.
        size = tokens if tokens < 8 else tokens >> (tokens.bit_length() - 3) << (tokens.bit_length() - 3)
        known, weight = self._seconds.get(size), FASTER
        if known is None:
            known, weight = self.of(size) or seconds, FIRST
        elif seconds > known:
            weight = SLOWER
        # A step beyond twice the known cost was slow for another reason: it counts, but not with all its time.
        self._seconds[size] = known + weight * (min(seconds, 2 * known) - known)
        self._points = None
        self._observations += 1
        self._seen_at[size] = self._observations

    def of(self, tokens: int) -> float | None:
        """Return the seconds of a step of ``tokens``; None where too little is known."""
        points = self._points
        if points is None:
            points = self._points = self._line()
        if len(points) < 2 or tokens < points[0][0]:
            return self._seconds.get(tokens)
        at = min(max(1, bisect_left(points, (tokens, 0.0))), len(points) - 1)
        (low, cheap), (high, dear) = points[at - 1], points[at]
        return cheap + (dear - cheap) * (tokens - low) / (high - low)

    def _line(self) -> list[tuple[float, float]]:
        """The observed points by size, made to rise: a larger step is never cheaper."""
        for stale in [size for size, at in self._seen_at.items() if at < self._observations - STALE]:
            del self._seconds[stale], self._seen_at[stale]
        points = sorted((float(size), seconds) for size, seconds in self._seconds.items())
        prompt = min(self._prompts, key=lambda step: step[1] / step[0], default=(0.0, 0.0))
        if points and prompt[0] > points[-1][0]:
            points.append(prompt)
        rising = points[:1]
        for _, (size, seconds) in pairwise(points):
            rising.append((size, max(seconds, rising[-1][1])))
        return rising


SHARE = 0.02
"""Share of the decoding time that unprofitable speculation may cost."""

_MOST_CREDIT = 10
"""Largest credit, in steps without drafts. It starts at none: the first answers bear no more than others."""

_MARGIN = 1.03
"""How much faster a step has to get for a draft to be worth its risk."""

_LONGEST = 31
"""Most tokens of a draft: with the token before it, a number of rows that matrix kernels like."""

_ROWS = 4
"""Rows that kernels process at a time. Two cores, 0.9B q4_0: 3 rows take 2.7 times as long as one and 4 take 2.6, 15
take 8.1 and 16 take 6.3; so drafts fill up to a multiple."""

_PRIOR_TOKENS = 10.0
"""Observed tokens that the first estimate of the acceptance rate counts for."""

_HOPELESS = 0.01
"""Probability of a first token below which nothing is drafted. Short matches begin with it and have to be learnt."""

_KEEP = 0.5 ** (1 / 100)
"""Weight of the past after each observed token: after 100 it counts for half."""


@dataclass(frozen=True, slots=True)
class _Extension:
    """A draft of ``length`` tokens in a step that takes ``seconds`` with it."""

    length: int
    gain: float
    """Tokens that it is expected to give."""
    seconds: float


@dataclass(frozen=True, slots=True)
class _Proposal:
    """The expected cost of the drafts of a step."""

    tokens: int
    plain_seconds: float
    """Of the step without drafts."""
    seconds: float
    """Of the step with them."""


class AcceptanceEstimator:
    """Probability that a draft token is accepted, by match length, and apart for greedy and random sampling.

    A token further on in a draft is as sure as one after a match that is longer by the tokens between.
    """

    def __init__(self) -> None:
        """Start from an estimate: the longer the match, the surer the next token."""
        ranks = range(MAX_MATCH.bit_length())
        prior = [_PRIOR_TOKENS * (1 - 2 / (1 << rank)) if rank > 1 else 0.0 for rank in ranks]
        self._accepted = {greedy: list(prior) for greedy in (True, False)}
        self._observed = {greedy: [_PRIOR_TOKENS] * len(ranks) for greedy in (True, False)}

    def chances(self, match: int, count: int, *, greedy: bool) -> list[float]:
        """Return the probability of each of ``count`` draft tokens that it is accepted, with all before it.

        None are returned where the first one is hopeless.
        """
        accepted, observed = self._accepted[greedy], self._observed[greedy]
        chances, chance = [], 1.0
        for length in range(match, match + count):
            rank = min(length, MAX_MATCH).bit_length() - 1
            chance *= accepted[rank] / observed[rank]
            if length == match and chance < _HOPELESS:
                break
            chances.append(chance)
        return chances

    def observe(self, match: int, accepted_tokens: int, tokens: int, *, greedy: bool) -> None:
        """Learn that ``accepted_tokens`` of ``tokens`` were as predicted. Tokens after a wrong one do not count."""
        accepted, observed = self._accepted[greedy], self._observed[greedy]
        for index in range(min(accepted_tokens + 1, tokens)):
            rank = min(match + index, MAX_MATCH).bit_length() - 1
            accepted[rank] = accepted[rank] * _KEEP + (index < accepted_tokens)
            observed[rank] = observed[rank] * _KEEP + 1


class SpeculativeController:
    """``propose`` drafts for a step, then ``observe`` how it went."""

    def __init__(self, stop_ids: frozenset[int]) -> None:
        """No draft holds one of ``stop_ids``."""
        self._stop_ids = stop_ids
        self._matchers: dict[int, NgramMatcher] = {}
        self._cost = StepCost()
        self._acceptance = AcceptanceEstimator()
        self._credit = 0.0
        self._proposal: _Proposal | None = None
        self.drafted_tokens = 0
        self.accepted_tokens = 0

    @property
    def request_ids(self) -> frozenset[int]:
        """Sequences that have an index."""
        return frozenset(self._matchers)

    def forget(self, request_id: int) -> None:
        """Drop the index of a sequence that has ended."""
        self._matchers.pop(request_id, None)

    def propose(self, sequences: Ordered[Sequence], room: int, seconds: float) -> Mapping[int, tuple[int, ...]]:
        """Return draft tokens by request id for decoding ``sequences``.

        Args:
            sequences: all of the step; nothing else is computed in it.
            room: most draft tokens.
            seconds: the time that the step may take.
        """
        self._proposal = None
        if room < 1:
            return {}
        found = []
        for sequence in sequences:
            matcher = self._matchers.get(sequence.request_id)
            if matcher is None:
                matcher = self._matchers[sequence.request_id] = NgramMatcher()
            last, match = matcher.match, matcher.find(sequence.tokens)
            if last is not None:
                self._acceptance.observe(last.length, matcher.accepted, matcher.new_tokens, greedy=_greedy(sequence))
            if match is not None:
                found.append((match.length, match, sequence))
        return self._drafts(found, len(sequences), room, seconds) if found else {}

    def observe(self, sequences: int, accepted_tokens: int, seconds: float) -> None:
        """Learn from the step that was proposed for: ``accepted_tokens`` of the drafts of ``sequences``."""
        proposal = self._proposal
        if proposal is None:
            self._credit += SHARE * seconds
            self._cost.observe(sequences, seconds)
            return
        self._cost.observe(sequences + proposal.tokens, seconds)
        # Where a step takes more than twice the expected time, the rest has another cause.
        spent = min(seconds, 2 * proposal.seconds) - proposal.plain_seconds
        self._credit += accepted_tokens * proposal.plain_seconds / sequences - spent
        self.drafted_tokens += proposal.tokens
        self.accepted_tokens += accepted_tokens

    def observe_prompt(self, tokens: int, seconds: float) -> None:
        """Learn the cost of a large batch from a step of prompt tokens alone."""
        self._cost.observe(tokens, seconds, prompt=True)

    def _drafts(
        self, found: list[tuple[int, NgramMatch, Sequence]], sequences: int, room: int, seconds: float
    ) -> dict[int, tuple[int, ...]]:
        """Return the drafts that pay, the longest match first."""
        plain, least = self._cost.of(sequences), self._cost.of(_next_rows(sequences))
        if plain is None or least is None:
            return {}
        self._credit = min(self._credit, _MOST_CREDIT * plain)
        seconds = min(seconds, plain + self._credit)
        if least > seconds:
            return {}
        found.sort(key=itemgetter(0), reverse=True)
        drafts: dict[int, tuple[int, ...]] = {}
        tokens, expected, cost = sequences, float(sequences), plain
        for _, match, sequence in found:
            most = min(_LONGEST, room + sequences - tokens, sequence.max_tokens - sequence.num_generated_tokens - 1)
            chances = self._acceptance.chances(match.length, most, greedy=_greedy(sequence))
            if not chances:
                continue
            draft = self._before_stop(sequence, match.start, most)
            best = self._best(chances[: len(draft)], tokens, expected, cost, seconds)
            if best is not None:
                drafts[sequence.request_id] = draft[: best.length]
                tokens, expected, cost = tokens + best.length, expected + best.gain, best.seconds
        if drafts:
            self._proposal = _Proposal(tokens - sequences, plain, cost)
        return drafts

    def _before_stop(self, sequence: Sequence, start: int, most: int) -> tuple[int, ...]:
        """Return up to ``most`` tokens of ``sequence`` from ``start`` on, without a stop token."""
        tokens = sequence.tokens[start : start + most]
        stop = next((i for i, token in enumerate(tokens) if token - sequence.salt in self._stop_ids), len(tokens))
        return tuple(tokens[:stop])

    def _best(
        self, chances: Ordered[float], tokens: int, expected: float, cost: float, seconds: float
    ) -> _Extension | None:
        """Return the draft that makes the rate of a step of ``tokens`` highest, if one makes it higher."""
        best: _Extension | None = None
        rate = _MARGIN * expected / cost
        for length, gain in enumerate(accumulate(chances), 1):
            rows = tokens + length
            if rows > 2 and rows % _ROWS:
                continue
            longer = self._cost.of(rows)
            if longer is None or longer > seconds:
                break
            if (expected + gain) / longer > rate:
                best, rate = _Extension(length, gain, longer), (expected + gain) / longer
        return best


def _next_rows(tokens: int) -> int:
    """Return the rows of the smallest step that drafts make of one of ``tokens``."""
    return 2 if tokens == 1 else (tokens // _ROWS + 1) * _ROWS


def _greedy(sequence: Sequence) -> bool:
    return sequence.params.temperature == 0.0
