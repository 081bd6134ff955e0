"""A better start for the embedding than chance: what the training reviews say about each token by counting.

Neighbours in the text give each token a vector (the leading singular vectors of the positive pointwise mutual
information), and the labels of the reviews it occurs in give it one number more (their log odds). The network
trains on from there; it only saves the first part of the way.
"""

import torch
from torch import Tensor

from glmserve.models.tiny.training.reviews import POSITIVE, Review
from glmserve.models.tiny.training.tokenizer import Tokenizer

WINDOW = 4
VECTOR = 192
ODDS = 16
SCALE = 0.2


def embedding_start(reviews: list[Review], tokenizer: Tokenizer, vocab: int, hidden: int) -> Tensor:
    """Return the first embedding [vocab, hidden]: counted values in the leading columns, chance in the rest."""
    lines = [torch.tensor(tokenizer.encode("\n" + review.text)) for review in reviews]
    embedding = torch.randn(vocab, hidden) * SCALE
    vectors = _vectors(lines, vocab)
    known = vectors.norm(dim=1) > 0
    embedding[known, :VECTOR] = vectors[known] / vectors[known].std() * SCALE
    odds = _odds(lines, [review.label == POSITIVE for review in reviews], vocab)
    embedding[:, VECTOR : VECTOR + ODDS] = odds[:, None] / odds.std() * SCALE
    return embedding


def _vectors(lines: list[Tensor], vocab: int) -> Tensor:
    """Reduce the mutual information of near tokens to ``VECTOR`` columns."""
    counts = torch.zeros(vocab * vocab)
    for line in lines:
        for distance in range(1, WINDOW + 1):
            pairs = line[:-distance] * vocab + line[distance:]
            counts.index_add_(0, pairs, torch.ones(len(pairs)))
    together = counts.view(vocab, vocab)
    together = together + together.T
    single = together.sum(dim=1).clamp(min=1.0)
    information = (together * together.sum() / (single[:, None] * single[None])).clamp(min=1.0).log()
    left, strengths, _ = torch.svd_lowrank(information, q=VECTOR, niter=3)
    return left * strengths.sqrt()


def _odds(lines: list[Tensor], positive: list[bool], vocab: int) -> Tensor:
    """Return the smoothed log odds that a review with the token is a positive one, around the mean."""
    counts = torch.full((2, vocab), 3.0)
    for line, verdict in zip(lines, positive, strict=True):
        counts[int(verdict), torch.unique(line)] += 1
    counts /= torch.tensor([[positive.count(False)], [positive.count(True)]])
    return counts[1].log() - counts[0].log()
