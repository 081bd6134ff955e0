"""Better starts for the weights than chance. Training goes on from there.

Embedding: neighbours in the text of the training reviews give each token a vector (the leading singular vectors of the
positive pointwise mutual information), and the labels of the reviews it occurs in give it one number more (their log
odds).

Copying (a name out of a sentence, a text to repeat) needs two heads that work together, and chance takes long to find
them. Here the first layer gets a head that hands every position the token before it, and the second layer a head that
attends to the positions after earlier occurrences of the current token and speaks for the token found there.
"""

import torch
from torch import Tensor

from glmserve.models.tiny.training.network import HEAD_SIZE, ROTARY_SIZE, Layer, SelfAttention, Shape, TinyGlm
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


EMBEDDING_GAIN = 5.0
FREQUENCIES = 8
POSITION_GAIN = 9.0
HANDOVER = 1.5
MATCH_GAIN = 2.5
SPEECH = 3.0
HEARING = 0.15
# The leading columns of the embedding say what is alike; only the rest tells tokens apart.
FIRST_OWN_COLUMN = 208


@torch.no_grad()
def set_copying_heads(network: TinyGlm, shape: Shape) -> None:
    """Overwrite the first key-value group of the first two layers, and the heads that share it.

    The embedding grows, so that what the layers add does not hide which token is at a position.
    """
    network.transformer.embedding.word_embeddings.weight *= EMBEDDING_GAIN
    sight = torch.zeros(HEAD_SIZE, shape.hidden)
    sight[:, FIRST_OWN_COLUMN:] = _orthonormal(shape.hidden - FIRST_OWN_COLUMN, HEAD_SIZE).T
    places = _orthonormal(shape.hidden, 3 * HEAD_SIZE)
    before, mouth = places[:, : 2 * HEAD_SIZE], places[:, 2 * HEAD_SIZE :]
    _look_back(network, shape, sight, before)
    _find_again(network, shape, sight, before[:, :HEAD_SIZE], mouth)


def _look_back(network: TinyGlm, shape: Shape, sight: Tensor, before: Tensor) -> None:
    """Let heads 0 and 1 of the first layer attend one and two positions back, by rotary angles alone."""
    attention = _attention(network, 0)
    weight, bias = attention.query_key_value.weight, attention.query_key_value.bias
    angles = network.transformer.rotary_pos_emb.inv_freq[:FREQUENCIES]
    for head, distance in enumerate((1, 2)):
        query = slice(head * HEAD_SIZE, (head + 1) * HEAD_SIZE)
        weight[query] = 0.0
        bias[query] = POSITION_GAIN * _pairs((distance * angles).cos(), -(distance * angles).sin())
        attention.dense.weight[:, query] = HANDOVER * before[:, query]
    key, value = _group(shape)
    weight[key] = 0.0
    bias[key] = POSITION_GAIN * _pairs(torch.ones(FREQUENCIES), torch.zeros(FREQUENCIES))
    weight[value], bias[value] = sight, torch.zeros(HEAD_SIZE)


def _find_again(network: TinyGlm, shape: Shape, sight: Tensor, before: Tensor, mouth: Tensor) -> None:
    """Let head 0 of the second layer match its token with the tokens handed on, and speak for what it finds."""
    attention = _attention(network, 1)
    weight, bias = attention.query_key_value.weight, attention.query_key_value.bias
    key, value = _group(shape)
    query, kept = slice(0, HEAD_SIZE), HEAD_SIZE - ROTARY_SIZE
    weight[query], bias[query] = 0.0, 0.0
    weight[key], bias[key] = 0.0, 0.0
    weight[ROTARY_SIZE:HEAD_SIZE] = MATCH_GAIN * sight[:kept]
    weight[key.start + ROTARY_SIZE : key.stop] = MATCH_GAIN * before[:, :kept].T
    weight[value], bias[value] = sight, 0.0
    attention.dense.weight[:, query] = SPEECH * mouth
    embedding = network.transformer.embedding.word_embeddings.weight
    network.transformer.output_layer.weight += HEARING * (embedding @ sight.T) @ mouth.T


def _attention(network: TinyGlm, number: int) -> SelfAttention:
    layer = network.transformer.encoder.layers[number]
    if not isinstance(layer, Layer):
        raise TypeError(f"not a layer: {layer}")
    return layer.self_attention


def _group(shape: Shape) -> tuple[slice, slice]:
    """Return the rows of the first group's key and value in the fused projection."""
    key = shape.heads * HEAD_SIZE
    value = key + shape.groups * HEAD_SIZE
    return slice(key, key + HEAD_SIZE), slice(value, value + HEAD_SIZE)


def _pairs(even: Tensor, odd: Tensor) -> Tensor:
    """Interleave the halves of rotary pairs and fill up to the head size with zeros."""
    pairs = torch.stack([even, odd], dim=-1).flatten()
    return torch.cat([pairs, torch.zeros(HEAD_SIZE - len(pairs))])


def _orthonormal(rows: int, columns: int) -> Tensor:
    basis: Tensor = torch.linalg.qr(torch.randn(rows, columns)).Q
    return basis
