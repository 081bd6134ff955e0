"""Decides the number of draft tokens of a step, by measured cost and acceptance rate. Pure.

A draft is a guess of the next tokens from where the last ones stood before (``prompt_lookup``). It is computed in
the same batch, sampled at while it comes true, and cut off again where it does not: the answer is the same, only
sooner. How often guesses come true is seen for nothing: each is compared with what the answer goes on with, whether it
was computed along or not. What drafts may cost at worst comes out of a credit, which is filled by a share of all
decoding time and by what drafts save; so speculation that does not pay turns itself off, and has cost ``SHARE`` of
the time by then.
"""

from collections.abc import Mapping
from collections.abc import Sequence as Ordered
from dataclasses import dataclass
from itertools import accumulate
from operator import mul

from glmserve.engine.sequence import Sequence
from glmserve.engine.speculative.ngram import MAX_MATCH, PromptLookup
from glmserve.engine.speculative.step_cost import StepCost

SHARE = 0.02
"""Share of the decoding time that unprofitable speculation may cost."""

_MOST_CREDIT = 10
"""In single steps: the most that can be saved up. It starts with none: the first answers bear no more than others."""

_MARGIN = 1.03
"""How much faster a step has to get for a draft to be worth its risk."""

_LONGEST = 31
"""Tokens of a draft: with the one that it follows, a number that the kernels for matrices like."""

_ROWS = 4
"""Rows that kernels process at a time. Two cores, 0.9B q4_0: 3 rows take 2.7 times as long as one and 4 take 2.6, 15
take 8.1 and 16 take 6.3; so drafts fill up to a multiple."""

_FIRST_GUESSES = 10.0
"""How many guesses the first opinion on luck counts for."""

_MEMORY = 100.0
"""Guesses after which older luck counts for less than half."""


@dataclass(frozen=True, slots=True)
class Draft:
    """How a sequence may go on after its first ``length`` tokens, and how long the match was that says so."""

    length: int
    tokens: tuple[int, ...]
    match: int


class AcceptanceEstimator:
    """How probably a guessed token comes true, by the length of the match, and apart for greedy and drawn tokens.

    A token further on in a guess is as sure as one from a match that is longer by the tokens between.
    """

    def __init__(self) -> None:
        """Start from an opinion: the longer the match, the surer the next token."""
        self._came_true: dict[tuple[int, bool], float] = {}
        self._tried: dict[tuple[int, bool], float] = {}
        for rank in range(MAX_MATCH.bit_length()):
            for greedy in (True, False):
                self._tried[rank, greedy] = _FIRST_GUESSES
                self._came_true[rank, greedy] = _FIRST_GUESSES * (1 - 2 / (1 << rank)) if rank > 1 else 0.0

    def probability(self, match: int, *, greedy: bool) -> float:
        """Probability of a token drafted from a match of ``match`` tokens, if the drafts before it were accepted."""
        key = _rank(match), greedy
        return self._came_true[key] / self._tried[key]

    def observe(self, match: int, accepted_tokens: int, drafted_tokens: int, *, greedy: bool) -> None:
        """Learn from a draft: tokens after the first rejected one say nothing."""
        keep = 0.5 ** (1 / _MEMORY)
        for index in range(min(accepted_tokens + 1, drafted_tokens)):
            key = _rank(match + index), greedy
            self._came_true[key] = self._came_true[key] * keep + (index < accepted_tokens)
            self._tried[key] = self._tried[key] * keep + 1


def _rank(match: int) -> int:
    return min(match, MAX_MATCH).bit_length() - 1


class SpeculativeController:
    """``propose`` drafts for a step, then ``observe`` how it went."""

    def __init__(self, stop_ids: frozenset[int]) -> None:
        """No draft holds one of ``stop_ids``."""
        self._stop_ids = stop_ids
        self._lookups: dict[int, PromptLookup] = {}
        self._guesses: dict[int, Draft] = {}
        self._cost = StepCost()
        self._luck = AcceptanceEstimator()
        self._credit = 0.0
        self._drafted = 0
        self.drafted_tokens = 0
        self.accepted_tokens = 0

    @property
    def request_ids(self) -> frozenset[int]:
        """Of the sequences that something is kept of."""
        return frozenset(self._lookups)

    def forget(self, request_id: int) -> None:
        """Drop the state of a sequence that has ended."""
        self._lookups.pop(request_id, None)
        self._guesses.pop(request_id, None)

    def propose(self, sequences: Ordered[Sequence], room: int, seconds: float) -> Mapping[int, tuple[int, ...]]:
        """Return drafted tokens by request id for decoding ``sequences``.

        Args:
            sequences: all of the step; nothing else is computed in it.
            room: most drafted tokens.
            seconds: what the step may take.
        """
        drafts = self._drafts(sequences, room, seconds)
        self._drafted = sum(map(len, drafts.values()))
        return drafts

    def _drafts(self, sequences: Ordered[Sequence], room: int, seconds: float) -> dict[int, tuple[int, ...]]:
        if room < 1:
            return {}
        guesses = [(s, guess) for s in sequences if _may_draft(s) and (guess := self._guess(s)) is not None]
        plain = self._cost.of(len(sequences))
        if plain is None:
            return {}
        guesses.sort(key=lambda pair: -pair[1].match)
        drafts: dict[int, tuple[int, ...]] = {}
        tokens, expected = len(sequences), float(len(sequences))
        for sequence, guess in guesses:
            most = min(len(guess.tokens), room - (tokens - len(sequences)))
            chances = self._chances(guess, most, greedy=_greedy(sequence))
            length, gain = self._best(chances, tokens, expected, min(plain + self._credit, seconds))
            if length:
                drafts[sequence.request_id] = guess.tokens[:length]
                tokens, expected = tokens + length, expected + gain
        return drafts

    def observe(self, sequences: Ordered[Sequence], accepted: Mapping[int, int], seconds: float) -> None:
        """Learn from the step that was proposed for: ``accepted`` tokens of the drafts, by request id."""
        drafted = self._drafted
        plain = self._cost.of(len(sequences))
        foreseen = self._cost.of(len(sequences) + drafted)
        self._cost.observe(len(sequences) + drafted, seconds)
        if plain is None or foreseen is None:
            return
        accepted_tokens = sum(accepted.values())
        # What a step takes beyond twice of what was foreseen is somebody else's doing.
        spent = min(seconds, 2 * foreseen) - plain if drafted else -SHARE * plain
        saved = accepted_tokens * plain / len(sequences)
        self._credit = min(self._credit + saved - spent, _MOST_CREDIT * plain)
        self.drafted_tokens += drafted
        self.accepted_tokens += accepted_tokens

    def observe_prompt(self, tokens: int, seconds: float) -> None:
        """Learn the cost of a large batch from a step of prompt tokens alone."""
        self._cost.observe(tokens, seconds, prompt=True)

    def _guess(self, sequence: Sequence) -> Draft | None:
        """Draft the continuation of ``sequence``: up to a stop token, and to the room of the answer."""
        self._compare(sequence)
        found = self._lookups.setdefault(sequence.request_id, PromptLookup()).find(sequence.tokens)
        if found is None:
            return None
        most = min(_LONGEST, sequence.max_tokens - sequence.num_generated_tokens - 1)
        tokens = sequence.tokens[found.start : found.start + most]
        stop = next((i for i, token in enumerate(tokens) if token - sequence.salt in self._stop_ids), len(tokens))
        if not stop:
            return None
        guess = Draft(len(sequence.tokens), tuple(tokens[:stop]), found.length)
        self._guesses[sequence.request_id] = guess
        return guess

    def _compare(self, sequence: Sequence) -> None:
        """Learn from the last draft, now that the answer has continued."""
        guess = self._guesses.pop(sequence.request_id, None)
        if guess is None:
            return
        came = sequence.tokens[guess.length :]
        pairs = list(zip(guess.tokens, came, strict=False))
        accepted_tokens = next(
            (i for i, (drafted_tokens, token) in enumerate(pairs) if drafted_tokens != token), len(pairs)
        )
        self._luck.observe(guess.match, accepted_tokens, len(pairs), greedy=_greedy(sequence))

    def _chances(self, guess: Draft, most: int, *, greedy: bool) -> list[float]:
        """Return how probably each of the first ``most`` guessed tokens comes true, with all before it."""
        each = (self._luck.probability(guess.match + index, greedy=greedy) for index in range(most))
        return list(accumulate(each, mul))

    def _best(self, chances: Ordered[float], tokens: int, expected: float, seconds: float) -> tuple[int, float]:
        """Return the length of a draft that makes the step's rate highest, and the tokens it is expected to give."""
        cost = self._cost.of(tokens)
        best, best_gain = 0, 0.0
        rate = _MARGIN * expected / cost if cost else 0.0
        for length, gain in enumerate(accumulate(chances), 1):
            rows = tokens + length
            if rows > 2 and rows % _ROWS:
                continue
            cost = self._cost.of(rows)
            if cost is None or cost > seconds:
                break
            if (expected + gain) / cost > rate:
                best, best_gain, rate = length, gain, (expected + gain) / cost
        return best, best_gain


def _may_draft(sequence: Sequence) -> bool:
    return sequence.num_uncomputed_tokens == 1 and sequence.max_tokens - sequence.num_generated_tokens > 1


def _greedy(sequence: Sequence) -> bool:
    return sequence.params.temperature == 0.0
