"""The content of one step: cache operations, then the tokens of one ``llama_decode``. Pure."""

from collections.abc import Sequence as Ordered
from dataclasses import dataclass
from typing import NamedTuple

from glmserve.engine.kv_cache.ops import CacheOp
from glmserve.engine.sequence import Sequence


class BatchItem(NamedTuple):
    """One sequence's share of a batch: ``tokens`` at positions from ``start`` on. There is one for each token."""

    sequence: Sequence
    slot: int
    start: int
    tokens: tuple[int, ...]
    """As the prefix cache knows them; the model computes ``ids``."""
    samples: bool
    """Whether these are all tokens it has, so that the last one's logits give the next."""

    drafts: tuple[int, ...] = ()
    """Draft tokens that follow, computed in the same batch and sampled as long as they are accepted. Never a stop
    token, and only where the item samples."""

    @property
    def num_tokens(self) -> int:
        """Tokens and drafts. Asked several times for each step, so nothing is put together for it."""
        return len(self.tokens) + len(self.drafts)

    @property
    def ids(self) -> tuple[int, ...]:
        """The tokens and drafts as the model's vocabulary has them."""
        salt, tokens = self.sequence.salt, self.tokens + self.drafts
        return tuple(token - salt for token in tokens) if salt else tokens

    @property
    def scores(self) -> bool:
        """Whether the probabilities of the prompt's tokens are wanted, so that all its logits are."""
        return self.sequence.params.prompt_logprobs is not None and self.start < self.sequence.num_prompt_tokens

    @property
    def following_prompt_ids(self) -> tuple[int, ...]:
        """The prompt's tokens that follow each of ``tokens``, as the model's vocabulary has them."""
        following = self.sequence.prompt_ids[self.start + 1 : self.start + 1 + len(self.tokens)]
        return tuple(token - self.sequence.salt for token in following)


@dataclass(frozen=True, slots=True)
class Batch:
    """One step: ``ops`` in order, then ``admitted`` get a sampler, then ``items`` are decoded together."""

    ops: tuple[CacheOp, ...]
    admitted: tuple[Sequence, ...]
    items: tuple[BatchItem, ...]
    preempted: tuple[Sequence, ...] = ()
    """Sequences that gave up their place and lose their sampler, to be queued again."""


SCORED_PER_STEP = 64
"""Tokens of a prompt that are scored in one step: each needs a row of logits, 260 kB for ChatGLM2's vocabulary."""

_TURNS = 4
"""Steps with prompts of which one begins with the oldest."""


def item_of(sequence: Sequence, count: int, drafts: tuple[int, ...] = ()) -> BatchItem:
    """Return the next ``count`` tokens of ``sequence`` as its share of a batch, and ``drafts`` after them."""
    start = sequence.num_computed_tokens
    tokens = tuple(sequence.tokens[start : start + count])
    samples = start + count == len(sequence.tokens) and not sequence.pinned
    return BatchItem(sequence, sequence.slot, start, tokens, samples, drafts)


def _with_one_scored(sequences: list[Sequence]) -> list[Sequence]:
    """Leave out all sequences whose prompts are scored but the first: their logits need memory."""
    scored = [sequence for sequence in sequences if sequence.params.prompt_logprobs is not None]
    return [sequence for sequence in sequences if sequence not in scored[1:]]


def _next_chunk(sequence: Sequence) -> int:
    """Return how many tokens of the sequence one step may compute."""
    left = sequence.num_next_tokens
    return left if sequence.params.prompt_logprobs is None else min(left, SCORED_PER_STEP)


class ChunkedPrefill:
    """Whose prompt comes first in a step: in three of four the one with the shortest rest, in the fourth the oldest.

    A short question does not wait behind a long document, and the document is not starved by short questions. A step is
    for one of them as far as it goes, as attention on a CPU may compute the tokens of each with the cells of both.
    """

    def __init__(self) -> None:
        """Begin with the oldest."""
        self._steps = 0

    def chunks(self, sequences: list[Sequence], room: int) -> list[BatchItem]:
        """Share ``room`` tokens among the prompts of ``sequences``, of which the first is the oldest."""
        items = []
        for sequence in self.in_turn(sequences):
            count = min(_next_chunk(sequence), room)
            room -= count
            if count:
                items.append(item_of(sequence, count))
        return items

    def in_turn(self, sequences: list[Sequence]) -> list[Sequence]:
        """Return ``sequences``, of which the first is the oldest, in the order in which their prompts are computed."""
        oldest = sequences[:1] if self._steps % _TURNS == 0 else []
        self._steps += bool(sequences)
        shortest = sorted(_with_one_scored(sequences), key=lambda s: s.num_uncomputed_tokens)
        return list(dict.fromkeys(oldest + shortest))


class AdapterRotation:
    """llama.cpp's adapters are set for a whole batch, so they take turns, each after the one that ran longest ago."""

    def __init__(self) -> None:
        """No adapter has had a turn."""
        self._last = -1

    def next_of(self, sequences: Ordered[Sequence]) -> list[Sequence]:
        """Return the ``sequences`` of the adapter in turn."""
        salts = {sequence.salt for sequence in sequences}
        if salts:
            self._last = min((salt for salt in salts if salt > self._last), default=min(salts))
        return [sequence for sequence in sequences if sequence.salt == self._last]
