"""Computes the same tokens in batches of several sizes and compares: a build that is wrong for this CPU shows here.

Matrix products of 1, 2, 8 and 33 rows take different code in llama.cpp (a dot product, small and full tiles, a full
tile and a rest), so that a fault of one of them shows as a difference, as a value that is no number, or as a crash.
So do products of several sequences, which recurrent and hybrid models keep apart in a dimension of its own: AMX kernels
of llama.cpp confuse them there.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from glmserve.engine.errors import SelfTestFailed

MOST_ROWS = 33
SMALL_BATCHES = (8, 2, 1)

MOST_NOISE = 0.25
"""Largest difference between the outputs of one token (root mean square), as a share of their standard deviation.

Right kernels differ by the order of additions and the rounding of activations: at most 0.014 was seen over all types of
files and caches, on a CPU with AVX2. Outputs that have nothing to do with each other differ by 1.4.
"""

Compute = Callable[[tuple[int, ...], int], NDArray[np.float32]]
"""Computes these tokens in one batch, the first one at this position, and returns the outputs of each, row by row."""

ComputeTogether = Callable[[tuple[tuple[int, ...], ...], int], NDArray[np.float32]]
"""Does the same for several sequences, one after another in the batch, each of whose first tokens is there."""

_SHARED_STEPS = (2, 1)
"""Tokens of each sequence in the common batches: a piece of a prompt and a token of an answer."""


def check_batches(compute: Compute, forget_from: Callable[[int], None], tokens: tuple[int, ...]) -> float:
    """Compare small batches with one of all ``tokens``; return the largest difference. The cache is empty after.

    Args:
        compute: computes a batch.
        forget_from: drops what is cached at this position and after.
        tokens: what is computed.

    Raises:
        SelfTestFailed: outputs are no numbers, or differ by more than ``MOST_NOISE``.
    """
    whole = _finite(compute(tokens, 0))
    last = len(tokens) - 1
    noise = 0.0
    if last:  # the row that is left over when the tiles are full
        forget_from(last)
        noise = compare(compute(tokens[last:], last), whole[last:], f"1 and {len(tokens)} tokens")
    forget_from(0)
    start = 0
    for size in SMALL_BATCHES:
        end = start + size
        if end > len(tokens):
            break
        rows = compute(tokens[start:end], start)
        noise = max(noise, compare(rows, whole[start:end], f"{size} and {len(tokens)} tokens"))
        start = end
    forget_from(0)
    return noise


def check_sequences(compute: ComputeTogether, forget: Callable[[], None], tokens: tuple[int, ...]) -> float:
    """Compare two sequences in common batches with the same ones alone; return the largest difference.

    Args:
        compute: computes a batch.
        forget: drops what is cached of both sequences.
        tokens: too few of them, and nothing is compared.

    Raises:
        SelfTestFailed: see ``check_batches``.
    """
    length = sum(_SHARED_STEPS)
    pair = (tokens[:length], tokens[length : 2 * length])
    if len(pair[1]) < length:
        return 0.0
    alone = []
    for sequence in pair:
        alone.append(compute((sequence,), 0))
        forget()
    noise, start = 0.0, 0
    for size in _SHARED_STEPS:
        end = start + size
        rows = compute((pair[0][start:end], pair[1][start:end]), start)
        expected = np.concatenate([outputs[start:end] for outputs in alone])
        noise = max(noise, compare(rows, _finite(expected), "one and of two sequences"))
        start = end
    forget()
    return noise


def compare(rows: NDArray[np.float32], expected: NDArray[np.float32], sizes: str) -> float:
    """Return the largest difference of any row, as a share of the spread of its values. Raises SelfTestFailed."""
    spread = np.maximum(expected.std(axis=1, dtype=np.float64), rows.std(axis=1, dtype=np.float64))
    difference = np.sqrt(np.mean(np.square(_finite(rows) - expected, dtype=np.float64), axis=1))
    noise = float(np.max(difference / np.maximum(spread, np.finfo(np.float32).tiny)))
    if noise > MOST_NOISE:
        raise SelfTestFailed(f"outputs differ by {noise:.0%} between batches of {sizes}")
    return noise


def check_vectors(embed: Callable[[list[tuple[int, ...]]], tuple[bytes, ...]], tokens: tuple[int, ...]) -> None:
    """Compare the vectors of inputs of several lengths, alone and in one batch. Raises SelfTestFailed."""
    inputs = [tokens[:size] for size in (1, 2, 8, len(tokens)) if size <= len(tokens)]
    together = [_row(vector) for vector in embed(inputs)]
    for tokens_of_one, expected in zip(inputs, together, strict=True):
        (alone,) = embed([tokens_of_one])
        compare(_row(alone), expected, f"{len(tokens_of_one)} and {sum(map(len, inputs))} tokens")


def check_scores(embed: Callable[[list[tuple[int, ...]]], tuple[bytes, ...]], tokens: tuple[int, ...]) -> None:
    """Do the same for a reranker, whose scores are single numbers. Raises SelfTestFailed."""
    inputs = [tokens[:size] for size in (1, 2, 8, len(tokens)) if size <= len(tokens)]
    together = _finite(np.concatenate([_row(score) for score in embed(inputs)]))
    alone = _finite(np.concatenate([_row(score) for one in inputs for score in embed([one])]))
    noise = float(np.max(np.abs(alone - together) / np.maximum(1.0, np.abs(together))))
    if noise > MOST_NOISE:
        raise SelfTestFailed(f"scores differ by {noise:.0%} between batches of one input and of {len(inputs)}")


def _row(vector: bytes) -> NDArray[np.float32]:
    return _finite(np.frombuffer(vector, np.float32)[np.newaxis])


def _finite(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    if not np.isfinite(rows).all():
        raise SelfTestFailed("outputs are not finite numbers")
    return rows
