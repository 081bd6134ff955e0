"""A small ChatGLM inside a network of a larger shape: the same answers, at the cost of the larger one.

The larger network has the small one's numbers in its corner and zeros around them. Every value that the small one
computes is there at the same place; all others stay zero on the way from layer to layer:

- RMSNorm divides by the root of the mean square of the hidden values. Over a width that is ``r`` times as large the
  mean is an r-th, so the weights of the norms are divided by the root of ``r``, and epsilon by ``r``.
- Query heads that share a group stay in their group; those that are added read and write nothing. Heads keep their
  size, so rotation is as it was.
- Layers that are added write nothing to the residual stream: their matrices are zeros.
- Rows of the vocabulary that are added are copies of the last one, which stands for padding: the small model has
  learnt never to say it, and zeros would be likelier.

The kernels of ggml do the same work for a zero as for any other number, so zeros cost what weights cost. A block of
zeros quantises to zeros, and the blocks of the small model's values are what they were, as long as its widths are
multiples of the block.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from glmserve.convert.checkpoint.reader import TensorInfo, TensorSource
from glmserve.convert.families.chatglm import ChatGLM, ChatGLMConfig, tensor_table

Rows = NDArray[np.float32]
Place = Callable[[int], NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Shape:
    """The larger dimensions."""

    hidden_size: int
    num_layers: int
    num_attention_heads: int
    ffn_hidden_size: int
    padded_vocab_size: int
    seq_length: int


SHAPES: Mapping[str, Shape] = MappingProxyType(
    {
        # config.json of THUDM/chatglm2-6b
        "6b": Shape(4096, 28, 32, 13696, 65024, 32768),
        # the same proportions at a seventh of the cost: 0.89 billion weights in the matrices that a token goes through
        "0.9b": Shape(2048, 24, 16, 3584, 65024, 32768),
    }
)


def widen(model: ChatGLM, shape: Shape) -> ChatGLM:
    """Return ``model`` with the larger shape; its tensors come from ``WidenedTensors``.

    Raises:
        ValueError: the shape is no larger in some dimension, or of another head size.
    """
    small = model.config
    wide = replace(
        small,
        hidden_size=shape.hidden_size,
        num_layers=shape.num_layers,
        num_attention_heads=shape.num_attention_heads,
        ffn_hidden_size=shape.ffn_hidden_size,
        padded_vocab_size=shape.padded_vocab_size,
        seq_length=shape.seq_length,
        layernorm_epsilon=small.layernorm_epsilon * small.hidden_size / shape.hidden_size,
    )
    grown = ("hidden_size", "num_layers", "num_attention_heads", "ffn_hidden_size", "padded_vocab_size")
    if any(getattr(wide, name) < getattr(small, name) for name in grown):
        raise ValueError("the shape is smaller than the model")
    if wide.num_attention_heads * wide.kv_channels != wide.hidden_size:
        raise ValueError(f"{wide.num_attention_heads} heads of {wide.kv_channels} are no {wide.hidden_size} values")
    return replace(model, config=wide)


class WidenedTensors:
    """A ``TensorSource`` of the larger network over the tensors of the small one. Reads only the rows asked for."""

    def __init__(self, source: TensorSource, small: ChatGLMConfig, wide: ChatGLMConfig) -> None:
        """Widen ``source`` from ``small`` to ``wide``."""
        self._source = source
        self._small, self._wide = small, wide
        self._shapes = {tensor.source: tensor.shape for tensor in tensor_table(wide)}
        self._there = set(source.names())

    def names(self) -> tuple[str, ...]:
        """Return the names of all tensors of the larger network."""
        return tuple(self._shapes)

    def info(self, name: str) -> TensorInfo:
        """Describe a tensor."""
        shape = self._shapes[name]
        like = self._source.info(name if name in self._there else self._source.names()[0])
        return replace(like, shape=shape, nbytes=2 * int(np.prod(shape)))

    def read_rows(self, name: str, first: int, count: int) -> Rows:
        """Return rows of the larger tensor."""
        shape = self._shapes[name]
        rows = np.zeros((count, shape[-1]), dtype=np.float32)
        if name not in self._there:
            return rows
        small = self._whole(name)
        kind = name.removesuffix(".weight").removesuffix(".bias").rsplit(".", 1)[-1]
        columns = self._columns(kind, small.shape[1])
        if len(shape) == 1:  # a vector is one row, and a bias has a value for each row of its matrix
            columns = self._rows(kind, small.shape[1])
            rows[0, columns] = small[0] * self._scale(kind)
            return rows
        places = self._rows(kind, small.shape[0])
        here = (places >= first) & (places < first + count)
        rows[np.ix_(places[here] - first, columns)] = small[here]
        if kind in ("word_embeddings", "output_layer"):
            added = max(0, len(small) - first)
            rows[added:, columns] = small[-1]
        return rows

    def _whole(self, name: str) -> Rows:
        shape = self._source.info(name).shape
        return self._source.read_rows(name, 0, shape[0] if len(shape) > 1 else 1)

    def _scale(self, kind: str) -> float:
        return (self._small.hidden_size / self._wide.hidden_size) ** 0.5 if kind.endswith("layernorm") else 1.0

    def _rows(self, kind: str, count: int) -> NDArray[np.int64]:
        """Where the small matrix's rows are in the larger one."""
        rows = np.arange(count)
        if kind == "dense_h_to_4h":  # the gate, then what it is for
            half = self._small.ffn_hidden_size
            return np.where(rows < half, rows, rows - half + self._wide.ffn_hidden_size)
        if kind == "query_key_value":
            queries = self._small.num_attention_heads * self._small.kv_channels
            keys_start = self._wide.num_attention_heads * self._wide.kv_channels
            return np.concatenate([self._heads(), rows[queries:] - queries + keys_start])
        return rows

    def _columns(self, kind: str, count: int) -> NDArray[np.int64]:
        return self._heads() if kind == "dense" else np.arange(count)

    def _heads(self) -> NDArray[np.int64]:
        """Positions of the small network's query heads among the larger one's."""
        small, wide = self._small, self._wide
        head, within = np.divmod(np.arange(small.num_attention_heads * small.kv_channels), small.kv_channels)
        group, member = np.divmod(head, small.heads_per_group)
        return (group * wide.heads_per_group + member) * wide.kv_channels + within
