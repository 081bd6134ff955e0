"""Tensors that a checkpoint does not hold as such: parts of a fused one, or rows changed on the way."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from glmserve.convert.checkpoint.reader import TensorInfo, TensorSource

Rows: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class View:
    """Some rows of a tensor."""

    source: str
    first: int
    rows: int
    head_size: int = 0
    """Where given, the two halves of each head's rows are interleaved: a rotary pair is then two neighbours."""
    change: Callable[[Rows], Rows] | None = None
    """Applied to any number of whole rows."""


class ViewedTensors:
    """A TensorSource in which views stand in for the tensors that they are made of."""

    def __init__(self, source: TensorSource, views: Mapping[str, View]) -> None:
        self._source = source
        self._views = views

    def names(self) -> tuple[str, ...]:
        """Return the names of all views, and of the tensors that no view is made of."""
        viewed = {view.source for view in self._views.values()}
        return (*self._views, *(name for name in self._source.names() if name not in viewed))

    def info(self, name: str) -> TensorInfo:
        """Describe a tensor or a view; raises MissingTensorError."""
        view = self._views.get(name)
        if view is None:
            return self._source.info(name)
        whole = self._source.info(view.source)
        shape = (view.rows, *whole.shape[1:])
        return replace(whole, shape=shape, nbytes=whole.nbytes // whole.shape[0] * view.rows)

    def read_rows(self, name: str, first: int, count: int) -> Rows:
        """Return rows as float32; raises the errors of the source."""
        view = self._views.get(name)
        if view is None:
            return self._source.read_rows(name, first, count)
        if view.head_size:
            rows = self._read_interleaved(view, first, count)
        else:
            rows = self._source.read_rows(view.source, view.first + first, count)
        return view.change(rows) if view.change else rows

    def _read_interleaved(self, view: View, first: int, count: int) -> Rows:
        size, half = view.head_size, view.head_size // 2
        start = first // size * size
        end = -(-(first + count) // size) * size
        whole_heads = self._source.read_rows(view.source, view.first + start, end - start)
        head, within = np.divmod(np.arange(first - start, first - start + count), size)
        rows: Rows = whole_heads[head * size + within % 2 * half + within // 2]
        return rows


def normalize_rows(rows: Rows) -> Rows:
    """Scale each row to length 1, as ``torch.nn.functional.normalize`` does."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    normalized: Rows = rows / np.maximum(lengths, 1e-12)
    return normalized
