"""Weights that were published packed as int8 or int4 (chatglm2-6b-int8, -int4), unpacked while they are read.

Each of the four matrices of a layer has one scale per row. An int4 byte holds two neighbours of a row: the upper half
is the even column, the lower half the odd one, both with a sign. The product of integer and scale is exact in
float32; the authors' kernels round it to float16 once more.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from glmserve.convert.checkpoint.reader import TensorInfo, TensorSource
from glmserve.convert.errors import TensorShapeError

_SCALE = "_scale"


class UnpackedTensors:
    """A TensorSource that returns packed matrices unpacked. Others pass as they are."""

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
