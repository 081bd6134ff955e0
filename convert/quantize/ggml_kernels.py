"""ggml's own quantisation kernels, through ctypes.

The kernels are those of the ``libggml-base`` that llama-cpp-python installs, so a tensor gets the very bytes
that ``llama-quantize`` of the same version would write. The library alone is loaded, not llama.cpp.
"""

import ctypes
import importlib.util
import sys
from functools import cache
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as GGMLType
from numpy.typing import NDArray

from glmserve.convert.errors import KernelError
from glmserve.convert.gguf_format import data_bytes


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
            rows: shape [rows, columns], C-contiguous; columns a multiple of its block size.
            kind: one of the types in ``recipes.py``.
            importance: how much each column matters, C-contiguous; types that cannot use it pass over it.

        Returns:
            One dimension of bytes, row after row.
        """
        count, columns = rows.shape
        if kind is GGMLType.F32:
            return rows.reshape(-1).view(np.uint8)
        out = np.empty(data_bytes(kind, rows.size), dtype=np.uint8)
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
