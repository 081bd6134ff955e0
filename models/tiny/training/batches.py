"""Batches as tensors: the ids all rows share, the rows, and which positions are to be predicted."""

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from glmserve.models.tiny.training.corpus import Example
from glmserve.models.tiny.training.reviews import POSITIVE
from glmserve.models.tiny.training.tokenizer import Encoded, Tokenizer

UNKNOWN = 0


@dataclass(frozen=True)
class Selection:
    """Positions (row, column) and what is to be predicted there: the next token, or a verdict."""

    rows: Tensor
    columns: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Batch:
    """A shared prefix, padded rows that continue it, and the selections for the loss.

    ``verdicts`` are positions in the later half of reviews, whose targets say whether the review is positive.
    """

    prefix: Tensor
    rows: Tensor
    answers: Selection
    verdicts: Selection


def make_batch(
    examples: list[Example], tokenizer: Tokenizer, noise: float = 0.0, rng: random.Random | None = None
) -> Batch:
    """Encode ``examples``; with ``noise``, that share of the texts' tokens becomes unknown to the model."""
    encoded = [tokenizer.encode_pair(example.prompt, example.answer) for example in examples]
    shared = shared_length(encoded)
    rows = [[*pair.prompt, *pair.answer][shared:] for pair in encoded]
    answers = [(len(pair.prompt) - shared, len(row)) for pair, row in zip(encoded, rows, strict=True)]
    texts = [(1, start) if example.review else (0, 0) for example, (start, _) in zip(examples, answers, strict=True)]
    selections = _select(rows, answers), _verdicts(examples, texts)
    if noise and rng is not None:
        rows = [_blur(row, span, noise, rng) for row, span in zip(rows, texts, strict=True)]
    return Batch(torch.tensor(encoded[0].prompt[:shared]), pad(rows), *selections)


def shared_length(encoded: list[Encoded]) -> int:
    """Return how many leading ids all prompts share, short of the last of each."""
    shortest = min(len(pair.prompt) for pair in encoded) - 1
    first = encoded[0].prompt
    for position in range(shortest):
        if any(pair.prompt[position] != first[position] for pair in encoded):
            return position
    return shortest


def pad(rows: list[list[int]]) -> Tensor:
    """Pad rows on the right, where causality keeps the padding unseen."""
    length = max(len(row) for row in rows)
    return torch.tensor([row + [UNKNOWN] * (length - len(row)) for row in rows])


def _select(rows: list[list[int]], spans: list[tuple[int, int]]) -> Selection:
    """Select the positions that predict the tokens of each row's span."""
    places = [(number, at) for number, (start, end) in enumerate(spans) for at in range(start, end)]
    row_numbers = torch.tensor([number for number, _ in places], dtype=torch.long)
    columns = torch.tensor([at - 1 for _, at in places], dtype=torch.long)
    targets = torch.tensor([rows[number][at] for number, at in places], dtype=torch.long)
    return Selection(row_numbers, columns, targets)


def _verdicts(examples: list[Example], texts: list[tuple[int, int]]) -> Selection:
    """Select the later half of each review, with its label as the target."""
    places = [
        (number, at, float(example.review.label == POSITIVE))
        for number, (example, (start, end)) in enumerate(zip(examples, texts, strict=True))
        if example.review
        for at in range((start + end) // 2, end)
    ]
    rows, columns, targets = zip(*places, strict=True) if places else ((), (), ())
    return Selection(
        torch.tensor(rows, dtype=torch.long), torch.tensor(columns, dtype=torch.long), torch.tensor(targets)
    )


def _blur(row: list[int], span: tuple[int, int], noise: float, rng: random.Random) -> list[int]:
    start, end = span
    return [UNKNOWN if start <= at < end and rng.random() < noise else token for at, token in enumerate(row)]
