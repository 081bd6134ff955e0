"""The mathematics of ChatGLM2 in torch, for training: modules named as the checkpoint's tensors are.

One forward pass takes a prefix that all rows share and a batch of rows that continue it, so that a long
few-shot prompt is computed once for many questions. A row attends to the prefix and to itself.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

HEAD_SIZE = 128
ROTARY_SIZE = 64


@dataclass(frozen=True)
class Shape:
    """The sizes of the network."""

    hidden: int = 512
    heads: int = 4
    groups: int = 2
    layers: int = 3
    ffn: int = 160
    vocab: int = 1664
    context: int = 4096
    epsilon: float = 1e-5


@dataclass(frozen=True)
class Rows:
    """How the flat list of positions divides into the prefix and the rows, with the rotary angles of each."""

    prefix: int
    count: int
    length: int
    cos: Tensor
    sin: Tensor


class RotaryEmbedding(nn.Module):
    """Holds the inverse frequencies, which the checkpoint stores too."""

    inv_freq: Tensor

    def __init__(self) -> None:
        super().__init__()
        exponents = torch.arange(0, ROTARY_SIZE, 2, dtype=torch.float32) / ROTARY_SIZE
        self.register_buffer("inv_freq", 10000.0**-exponents)

    def rows(self, prefix: int, count: int, length: int) -> Rows:
        """Lay out the positions: 0.. for the prefix, and each row going on from its end."""
        row = torch.arange(prefix, prefix + length)
        positions = torch.cat([torch.arange(prefix), row.repeat(count)])
        angles = positions[:, None].float() * self.inv_freq.float()
        return Rows(prefix, count, length, angles.cos()[:, None], angles.sin()[:, None])


class SelfAttention(nn.Module):
    """Multi-query attention: ``heads`` query heads share ``groups`` key and value heads."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self._heads, self._groups = shape.heads, shape.groups
        width = (shape.heads + 2 * shape.groups) * HEAD_SIZE
        self.query_key_value = nn.Linear(shape.hidden, width)
        self.dense = nn.Linear(shape.heads * HEAD_SIZE, shape.hidden, bias=False)

    def forward(self, hidden: Tensor, rows: Rows) -> Tensor:
        """Attend, over the flat positions."""
        sizes = [self._heads * HEAD_SIZE, self._groups * HEAD_SIZE, self._groups * HEAD_SIZE]
        query, key, value = self.query_key_value(hidden).split(sizes, dim=-1)
        query = _rotate(query.unflatten(-1, (self._heads, HEAD_SIZE)), rows)
        key = _rotate(key.unflatten(-1, (self._groups, HEAD_SIZE)), rows)
        value = value.unflatten(-1, (self._groups, HEAD_SIZE))
        parts = [_attend_prefix(query[: rows.prefix], key[: rows.prefix], value[: rows.prefix])]
        if rows.count:
            parts.append(_attend_rows(query, key, value, rows))
        out: Tensor = self.dense(torch.cat(parts).flatten(1))
        return out


class Mlp(nn.Module):
    """SwiGLU: the first half of the fused projection is the gate."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.dense_h_to_4h = nn.Linear(shape.hidden, 2 * shape.ffn, bias=False)
        self.dense_4h_to_h = nn.Linear(shape.ffn, shape.hidden, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Apply the feed-forward part."""
        gate, up = self.dense_h_to_4h(hidden).chunk(2, dim=-1)
        out: Tensor = self.dense_4h_to_h(functional.silu(gate) * up)
        return out


class Layer(nn.Module):
    """One block: attention and feed-forward, each after a norm and around a residual."""

    def __init__(self, shape: Shape, dropout: float) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(shape.hidden, eps=shape.epsilon)
        self.self_attention = SelfAttention(shape)
        self.post_attention_layernorm = nn.RMSNorm(shape.hidden, eps=shape.epsilon)
        self.mlp = Mlp(shape)
        self._dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, rows: Rows) -> Tensor:
        """Apply the block."""
        hidden = hidden + self._dropout(self.self_attention(self.input_layernorm(hidden), rows))
        out: Tensor = hidden + self._dropout(self.mlp(self.post_attention_layernorm(hidden)))
        return out


class Encoder(nn.Module):
    """The blocks and the final norm."""

    def __init__(self, shape: Shape, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(shape, dropout) for _ in range(shape.layers))
        self.final_layernorm = nn.RMSNorm(shape.hidden, eps=shape.epsilon)

    def forward(self, hidden: Tensor, rows: Rows) -> Tensor:
        """Apply all blocks."""
        for layer in self.layers:
            hidden = layer(hidden, rows)
        out: Tensor = self.final_layernorm(hidden)
        return out


class Embedding(nn.Module):
    """The token embedding, one module deeper as in the checkpoint."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(shape.vocab, shape.hidden)


class Transformer(nn.Module):
    """Everything under the checkpoint's ``transformer.``."""

    def __init__(self, shape: Shape, dropout: float) -> None:
        super().__init__()
        self.embedding = Embedding(shape)
        self.rotary_pos_emb = RotaryEmbedding()
        self.encoder = Encoder(shape, dropout)
        self.output_layer = nn.Linear(shape.hidden, shape.vocab, bias=False)


class TinyGlm(nn.Module):
    """The whole network; its ``state_dict`` has the names of the checkpoint."""

    def __init__(self, shape: Shape, dropout: float = 0.0) -> None:
        super().__init__()
        self.transformer = Transformer(shape, dropout)
        self._dropout = nn.Dropout(dropout)
        self.apply(_initialise)
        scale = (2 * shape.layers) ** -0.5
        for name, weight in self.named_parameters():
            if name.endswith(("self_attention.dense.weight", "dense_4h_to_h.weight")):
                weight.data *= scale

    def forward(self, prefix: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the hidden states of the prefix [P, H] and of the rows [B, L, H]; see ``logits``."""
        count, length = rows.shape
        layout = self.transformer.rotary_pos_emb.rows(len(prefix), count, length)
        ids = torch.cat([prefix, rows.flatten()])
        hidden = self._dropout(self.transformer.embedding.word_embeddings(ids))
        hidden = self.transformer.encoder(hidden, layout)
        return hidden[: len(prefix)], hidden[len(prefix) :].view(count, length, -1)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits of hidden states."""
        out: Tensor = self.transformer.output_layer(hidden)
        return out


def _initialise(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=0.04)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


def _rotate(heads: Tensor, rows: Rows) -> Tensor:
    """Turn the adjacent pairs of the first ``ROTARY_SIZE`` dimensions by their position's angles."""
    turned, kept = heads[..., :ROTARY_SIZE], heads[..., ROTARY_SIZE:]
    even, odd = turned[..., 0::2], turned[..., 1::2]
    cos, sin = rows.cos.to(heads.dtype), rows.sin.to(heads.dtype)
    pairs = torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1)
    return torch.cat([pairs.flatten(-2), kept], dim=-1)


def _attend_prefix(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend causally within the prefix: [P, heads, D] and [P, groups, D] -> [P, heads, D]."""
    query, key, value = (part.transpose(0, 1)[None] for part in (query, key, value))
    out = functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
    return out[0].transpose(0, 1)


def _attend_rows(query: Tensor, key: Tensor, value: Tensor, rows: Rows) -> Tensor:
    """Attend from each row to the prefix and, causally, to the row itself."""
    shape = (rows.count, rows.length)
    groups = key.shape[1]
    own_key = key[rows.prefix :].view(*shape, groups, HEAD_SIZE).permute(2, 0, 1, 3)
    own_value = value[rows.prefix :].view(*shape, groups, HEAD_SIZE).permute(2, 0, 1, 3)
    shared_key = key[: rows.prefix].transpose(0, 1)
    shared_value = value[: rows.prefix].transpose(0, 1)
    asked = query[rows.prefix :].view(*shape, groups, -1, HEAD_SIZE).permute(2, 0, 3, 1, 4).contiguous()
    per_group = asked.shape[2]

    own = asked.flatten(2, 3) @ own_key.transpose(-1, -2)
    own = own.view(groups, rows.count, per_group, rows.length, rows.length)
    future = torch.ones(rows.length, rows.length, dtype=torch.bool).triu(1)
    own = own.masked_fill(future, float("-inf"))
    shared = (asked.flatten(1, 3) @ shared_key.transpose(-1, -2)).view(*asked.shape[:-1], rows.prefix)
    scores = torch.cat([shared, own], dim=-1) * HEAD_SIZE**-0.5
    weights = scores.softmax(dim=-1).to(value.dtype)

    to_shared = weights[..., : rows.prefix].flatten(1, 3) @ shared_value
    to_own = weights[..., rows.prefix :].flatten(2, 3) @ own_value
    out: Tensor = to_shared.view(asked.shape) + to_own.view(asked.shape)
    return out.permute(1, 3, 0, 2, 4).reshape(rows.count * rows.length, groups * per_group, HEAD_SIZE)
