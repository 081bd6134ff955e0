"""How the tokens of a step are shared among sequences. Pure."""

from server.engine.batch import BatchItem
from server.engine.sequence import Sequence

SCORED_PER_STEP = 64
"""Tokens of a prompt that are scored in one step: each needs a row of logits, 260 kB for ChatGLM2's vocabulary."""


def item_of(sequence: Sequence, count: int, drafts: tuple[int, ...] = ()) -> BatchItem:
    """Return the next ``count`` tokens of ``sequence`` as its share of a batch, and ``drafts`` after them."""
    start = sequence.num_computed_tokens
    tokens = tuple(sequence.tokens[start : start + count])
    samples = start + count == len(sequence.tokens) and not sequence.held
    return BatchItem(sequence, sequence.slot, start, tokens, samples, drafts)


def with_one_scored(sequences: list[Sequence]) -> list[Sequence]:
    """Leave out all sequences whose prompts are scored but the first: their logits need memory."""
    scored = [sequence for sequence in sequences if sequence.params.prompt_logprobs is not None]
    return [sequence for sequence in sequences if sequence not in scored[1:]]


def _next_piece(sequence: Sequence) -> int:
    """Return how many tokens of the sequence one step may compute."""
    left = sequence.num_uncomputed_tokens
    return left if sequence.params.prompt_logprobs is None else min(left, SCORED_PER_STEP)


def pieces(sequences: list[Sequence], room: int) -> list[BatchItem]:
    """Share ``room`` tokens among prompts: the shortest rest first, but a quarter of it for the oldest.

    A short question does not wait behind a long document, and the document is not starved by short questions.
    """
    if not sequences:
        return []
    counts = {sequences[0].request_id: min(_next_piece(sequences[0]), -(-room // 4))}
    room -= sum(counts.values())
    for sequence in sorted(sequences, key=lambda s: s.num_uncomputed_tokens):
        given = counts.get(sequence.request_id, 0)
        more = min(_next_piece(sequence) - given, room)
        counts[sequence.request_id] = given + more
        room -= more
    return [item_of(s, counts[s.request_id]) for s in sequences if counts[s.request_id]]
