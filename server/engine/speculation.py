"""Decides how many drafts a step computes along: as many as pay, by measured cost and measured luck. Pure.

A draft is a guess of the next tokens from where the last ones stood before (``prompt_lookup``). It is computed in
the same batch, sampled at while it comes true, and cut off again where it does not: the answer is the same, only
sooner. What it may cost at worst comes out of a credit, which is filled by a share of all decoding time and by what
drafts save; so speculation that does not pay turns itself off, and has cost ``SHARE`` of the time by then.
"""

from collections.abc import Mapping
from collections.abc import Sequence as Ordered
from dataclasses import dataclass

from server.engine.prompt_lookup import MAX_MATCH, Lookup, PromptLookup
from server.engine.sequence import Sequence
from server.engine.step_cost import StepCost

SHARE = 0.02
"""Of the decoding time: what speculation may cost where it does not pay."""

_FIRST_CREDIT = 2
_MOST_CREDIT = 50
"""In single steps: what it starts with, and the most it can save up."""

_MARGIN = 1.03
"""How much faster a step has to get for a draft to be worth its risk."""

_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Lengths of a draft that are weighed."""

_MEMORY = 200.0
"""Drafted tokens after which older luck counts for less than half."""


@dataclass(frozen=True, slots=True)
class Draft:
    """Guessed tokens, and how long the match was that they come from."""

    tokens: tuple[int, ...]
    match: int


class Luck:
    """How probably a drafted token comes true, by the length of the match, and apart for greedy and drawn tokens."""

    def __init__(self) -> None:
        """Start from a guess that counts as much as 20 tokens: the longer the match, the surer the next token."""
        self._came_true: dict[tuple[int, bool], float] = {}
        self._tried: dict[tuple[int, bool], float] = {}
        for rank in range(MAX_MATCH.bit_length()):
            for greedy in (True, False):
                self._tried[rank, greedy] = 20.0
                self._came_true[rank, greedy] = 20.0 * (1 - 0.9 / (1 << rank))

    def probability(self, match: int, *, greedy: bool) -> float:
        """Of a token drafted from a match of so many tokens, if those before it came true."""
        key = match.bit_length() - 1, greedy
        return self._came_true[key] / self._tried[key]

    def observe(self, match: int, accepted: int, drafted: int, *, greedy: bool) -> None:
        """Learn from a draft: tokens after the first that did not come true say nothing."""
        key = match.bit_length() - 1, greedy
        tried = min(accepted + 1, drafted)
        keep = 0.5 ** (tried / _MEMORY)
        self._came_true[key] = self._came_true[key] * keep + accepted
        self._tried[key] = self._tried[key] * keep + tried


class Speculation:
    """``propose`` drafts for a step, then ``observe`` how it went."""

    def __init__(self, stop_ids: frozenset[int]) -> None:
        """No draft holds one of ``stop_ids``."""
        self._stop_ids = stop_ids
        self._lookups: dict[int, PromptLookup] = {}
        self._cost = StepCost()
        self._luck = Luck()
        self._credit: float | None = None
        self._proposed: dict[int, Draft] = {}
        self.drafted_tokens = 0
        self.accepted_tokens = 0

    @property
    def request_ids(self) -> frozenset[int]:
        """Of the sequences that something is kept of."""
        return frozenset(self._lookups)

    def forget(self, request_id: int) -> None:
        """Drop what is kept of a sequence that has ended."""
        self._lookups.pop(request_id, None)

    def propose(self, sequences: Ordered[Sequence], room: int, seconds: float) -> Mapping[int, tuple[int, ...]]:
        """Return drafted tokens by request id for decoding ``sequences``.

        Args:
            sequences: all of the step; nothing else is computed in it.
            room: most drafted tokens.
            seconds: what the step may take.
        """
        self._proposed = self._drafts(sequences, room, seconds)
        return {request_id: draft.tokens for request_id, draft in self._proposed.items()}

    def _drafts(self, sequences: Ordered[Sequence], room: int, seconds: float) -> dict[int, Draft]:
        plain = self._cost.of(len(sequences))
        if plain is None or self._credit is None or room < 1:
            return {}
        found = [(s, lookup) for s in sequences if _may_draft(s) and (lookup := self._find(s)) is not None]
        found.sort(key=lambda pair: -pair[1].length)
        drafts: dict[int, Draft] = {}
        tokens, expected = len(sequences), float(len(sequences))
        for sequence, lookup in found:
            guess = self._guess(sequence, lookup)[: room - (tokens - len(sequences))]
            probability = self._luck.probability(lookup.length, greedy=_greedy(sequence))
            length, gain = self._best(len(guess), probability, tokens, expected, min(plain + self._credit, seconds))
            if length:
                drafts[sequence.request_id] = Draft(guess[:length], lookup.length)
                tokens, expected = tokens + length, expected + gain
        return drafts

    def observe(self, sequences: Ordered[Sequence], accepted: Mapping[int, int], seconds: float) -> None:
        """Learn from the step that was proposed for: ``accepted`` tokens of the drafts, by request id."""
        drafted = sum(len(draft.tokens) for draft in self._proposed.values())
        plain = self._cost.of(len(sequences))
        foreseen = self._cost.of(len(sequences) + drafted)
        self._cost.observe(len(sequences) + drafted, seconds)
        if plain is None or foreseen is None:
            return
        if self._credit is None:
            self._credit = _FIRST_CREDIT * plain
        came_true = sum(accepted.values())
        # What a step takes beyond twice of what was foreseen is somebody else's doing.
        spent = min(seconds, 2 * foreseen) - plain if drafted else -SHARE * plain
        saved = came_true * plain / len(sequences)
        self._credit = min(self._credit + saved - spent, _MOST_CREDIT * plain)
        self.drafted_tokens += drafted
        self.accepted_tokens += came_true
        for sequence in sequences:
            draft = self._proposed.get(sequence.request_id)
            if draft is not None:
                came_true = accepted[sequence.request_id]
                self._luck.observe(draft.match, came_true, len(draft.tokens), greedy=_greedy(sequence))

    def observe_prompt(self, tokens: int, seconds: float) -> None:
        """Learn from a step of prompt tokens alone what a large batch costs."""
        self._cost.observe(tokens, seconds, prompt=True)

    def _find(self, sequence: Sequence) -> Lookup | None:
        lookup = self._lookups.setdefault(sequence.request_id, PromptLookup())
        return lookup.find(sequence.tokens)

    def _guess(self, sequence: Sequence, lookup: Lookup) -> tuple[int, ...]:
        """The tokens that followed, up to a stop token and to what the answer has room for."""
        most = min(_SIZES[-1], sequence.max_tokens - sequence.num_generated_tokens - 1)
        guess = sequence.tokens[lookup.start : lookup.start + most]
        stop = next((i for i, token in enumerate(guess) if token - sequence.salt in self._stop_ids), len(guess))
        return tuple(guess[:stop])

    def _best(self, most: int, probability: float, tokens: int, expected: float, seconds: float) -> tuple[int, float]:
        """Return the length of a draft that makes the step's rate highest, and the tokens it is expected to give."""
        cost = self._cost.of(tokens)
        best, best_gain = 0, 0.0
        rate = _MARGIN * expected / cost if cost else 0.0
        gain, power, length = 0.0, 1.0, 0
        for size in _SIZES:
            if size > most:
                break
            while length < size:
                power *= probability
                gain += power
                length += 1
            cost = self._cost.of(tokens + size)
            if cost is None or cost > seconds:
                break
            if (expected + gain) / cost > rate:
                best, best_gain, rate = size, gain, (expected + gain) / cost
        return best, best_gain


def _may_draft(sequence: Sequence) -> bool:
    return sequence.num_uncomputed_tokens == 1 and sequence.max_tokens - sequence.num_generated_tokens > 1


def _greedy(sequence: Sequence) -> bool:
    return sequence.params.temperature == 0.0
