"""The gguf package's reader, bounded by the file: alone, it believes the counts that it reads."""

from typing import Any, Literal

import numpy as np
from gguf import GGUFReader
from numpy.typing import DTypeLike, NDArray

_MAX_READS = 1 << 24
"""Values before the tensors' data; each becomes an array object. The largest vocabularies have some millions."""


class BoundedReader(GGUFReader):  # type: ignore[misc]
    """A GGUFReader whose work is bounded by the size of the file. Raises ValueError where the file claims more."""

    _reads = 0

    def _get(
        self, offset: int, dtype: DTypeLike, count: int = 1, override_order: Literal["I", "S", "<"] | None = None
    ) -> NDArray[Any]:
        self._reads += 1
        if offset + np.dtype(dtype).itemsize * int(count) > len(self.data) or self._reads > _MAX_READS:
            raise ValueError("it claims more than it holds")
        values: NDArray[Any] = super()._get(offset, dtype, count, override_order)
        return values
