"""Tensors that a checkpoint does not hold as such: parts of a fused one, changed rows, unpacked integers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from glmserve.convert.checkpoint.reader import TensorInfo, TensorSource
from glmserve.convert.errors import TensorShapeError

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


_SCALE = "_scale"


class UnpackedTensors:
    """A TensorSource that returns matrices packed as int8 or int4 unpacked. Others pass as they are.

    Each of the four matrices of a layer has one scale per row. An int4 byte holds two neighbours of a row: the upper
    half is the even column, the lower half the odd one, both with a sign. The product of integer and scale is exact in
    float32; the authors' kernels round it to float16 once more.
    """

    def __init__(self, source: TensorSource, bits: int) -> None:
        """``bits`` is 4 or 8."""
        self._source = source
        self._per_byte = 8 // bits
        names = frozenset(source.names())
        self._packed = frozenset(name for name in names if name + _SCALE in names and _is_packed(source.info(name)))

    def names(self) -> tuple[str, ...]:
        """Return the names of all tensors but the scales."""
        return tuple(name for name in self._source.names() if name.removesuffix(_SCALE) not in self._packed)

    def info(self, name: str) -> TensorInfo:
        """Describe a tensor; raises MissingTensorError, and TensorShapeError where a scale does not fit."""
        info = self._source.info(name)
        if name not in self._packed:
            return info
        rows, columns = info.shape
        scale = self._source.info(name + _SCALE)
        if scale.shape != (rows,):
            raise TensorShapeError(name + _SCALE, scale.path, scale.shape, (rows,))
        return replace(info, shape=(rows, columns * self._per_byte), nbytes=info.nbytes + scale.nbytes, dtype="F32")

    def read_rows(self, name: str, first: int, count: int) -> NDArray[np.float32]:
        """Return rows as float32; raises as the source does."""
        rows = self._source.read_rows(name, first, count)
        if name not in self._packed:
            return rows
        if self._per_byte == 2:
            rows = unpack_nibbles(rows.astype(np.int8))
        scale = self._source.read_rows(name + _SCALE, 0, 1)[0, first : first + count]
        return rows * scale[:, np.newaxis]


def _is_packed(info: TensorInfo) -> bool:
    return info.dtype == "I8" and len(info.shape) == 2


def unpack_nibbles(packed: NDArray[np.int8]) -> NDArray[np.float32]:
    """Return [rows, 2 * columns] for [rows, columns] of bytes."""
    rows, columns = packed.shape
    values = np.empty((rows, columns, 2), np.float32)
    values[:, :, 0] = packed >> 4  # shifts keep the sign
    values[:, :, 1] = (packed << 4) >> 4
    return values.reshape(rows, 2 * columns)
