"""How the tokens of a step are shared among sequences. Pure."""

from glmserve.engine.scheduler.batch import BatchItem
from glmserve.engine.sequence import Sequence

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


def _next_piece(sequence: Sequence) -> int:
    """Return how many tokens of the sequence one step may compute."""
    left = sequence.num_uncomputed_tokens
    return left if sequence.params.prompt_logprobs is None else min(left, SCORED_PER_STEP)


class ChunkedPrefill:
    """Whose prompt comes first in a step: in three of four the one with the shortest rest, in the fourth the oldest.

    A short question does not wait behind a long document, and the document is not starved by short questions. A step is
    for one of them as far as it goes, as attention on a CPU may compute the tokens of each with the cells of both.
    """

    def __init__(self) -> None:
        """Begin with the oldest."""
        self._steps = 0

    def pieces(self, sequences: list[Sequence], room: int) -> list[BatchItem]:
        """Share ``room`` tokens among the prompts of ``sequences``, of which the first is the oldest."""
        oldest = sequences[:1] if self._steps % _TURNS == 0 else []
        self._steps += bool(sequences)
        shortest = sorted(_with_one_scored(sequences), key=lambda s: s.num_uncomputed_tokens)
        items = []
        for sequence in dict.fromkeys(oldest + shortest):
            count = min(_next_piece(sequence), room)
            room -= count
            if count:
                items.append(item_of(sequence, count))
        return items
