"""ggml's own quantisation kernels, through ctypes.

The kernels are those of the ``libggml-base`` that llama-cpp-python installs, so a tensor gets the very bytes
that ``llama-quantize`` of the same version would write. The library alone is loaded, not llama.cpp.
"""

import ctypes
import importlib.util
import sys
from enum import IntEnum
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glmserve.convert.errors import KernelError


class GGMLType(IntEnum):
    """Element types of GGUF tensors, with the numbers of ggml's ``enum ggml_type`` (ggml.h)."""

    F32 = 0
    F16 = 1
    Q4_0 = 2
    Q4_1 = 3
    Q5_0 = 6
    Q5_1 = 7
    Q8_0 = 8
    Q2_K = 10
    Q3_K = 11
    Q4_K = 12
    Q5_K = 13
    Q6_K = 14
    BF16 = 30

    @property
    def block_size(self) -> int:
        """Values per block; a row must be a multiple of it."""
        return _BLOCKS[self][0]

    @property
    def block_bytes(self) -> int:
        """Bytes per block."""
        return _BLOCKS[self][1]

    def nbytes(self, values: int) -> int:
        """Return the bytes of ``values`` values, a multiple of the block size."""
        return values // self.block_size * self.block_bytes


# (values, bytes) of a block: sizeof the block structs in ggml-common.h; checked against the library in tests.
_BLOCKS: dict[GGMLType, tuple[int, int]] = {
    GGMLType.F32: (1, 4),
    GGMLType.F16: (1, 2),
    GGMLType.BF16: (1, 2),
    GGMLType.Q4_0: (32, 18),
    GGMLType.Q4_1: (32, 20),
    GGMLType.Q5_0: (32, 22),
    GGMLType.Q5_1: (32, 24),
    GGMLType.Q8_0: (32, 34),
    GGMLType.Q2_K: (256, 84),
    GGMLType.Q3_K: (256, 110),
    GGMLType.Q4_K: (256, 144),
    GGMLType.Q5_K: (256, 176),
    GGMLType.Q6_K: (256, 210),
}


class Kernels:
    """The functions of libggml-base that conversion needs. Safe to call from several threads at once."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._quantize = library.ggml_quantize_chunk
        self._quantize.restype = ctypes.c_size_t
        self._quantize.argtypes = [
            ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p,
            ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
        ]  # fmt: skip
        self._validate = library.ggml_validate_row_data
        self._validate.restype = ctypes.c_bool
        self._validate.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]

    def quantize(
        self, rows: NDArray[np.float32], kind: GGMLType, importance: NDArray[np.float32] | None = None
    ) -> NDArray[np.uint8]:
        """Return ``rows`` in the encoding ``kind``.

        Args:
            rows: shape [rows, columns], C-contiguous; columns a multiple of ``kind.block_size``.
            kind: any type of the enumeration.
            importance: how much each column matters, C-contiguous; types that cannot use it pass over it.

        Returns:
            One dimension of bytes, row after row.
        """
        count, columns = rows.shape
        if kind is GGMLType.F32:
            return rows.reshape(-1).view(np.uint8)
        out = np.empty(kind.nbytes(rows.size), dtype=np.uint8)
        weights = None if importance is None else importance.ctypes.data
        self._quantize(kind, rows.ctypes.data, out.ctypes.data, 0, count, columns, weights)
        return out

    def is_valid(self, data: NDArray[np.uint8], kind: GGMLType) -> bool:
        """Tell whether ``data``, encoded as ``kind``, is free of NaN and infinity.

        ggml's own check; it logs to stderr what it finds.
        """
        return bool(self._validate(kind, data.ctypes.data, data.nbytes))


def library_path() -> Path:
    """Return where llama-cpp-python keeps libggml-base.

    Raises:
        KernelError: llama-cpp-python is not installed, or has no such file.
    """
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        raise KernelError("llama-cpp-python is not installed; install glmserve with its dependencies")
    names = {"darwin": ("libggml-base.dylib",), "win32": ("ggml-base.dll", "libggml-base.dll")}
    folder = Path(spec.origin).parent / "lib"
    for name in names.get(sys.platform, ("libggml-base.so",)):
        if (folder / name).exists():
            return folder / name
    raise KernelError(f"no libggml-base in {folder}; reinstall llama-cpp-python")


@cache
def load_kernels() -> Kernels:
    """Load the library once per process.

    Raises:
        KernelError: it is not there or does not load.
    """
    path = library_path()
    try:
        return Kernels(ctypes.CDLL(str(path)))
    except (OSError, AttributeError) as error:
        raise KernelError(f"{path} cannot be used ({error}); reinstall llama-cpp-python") from error
