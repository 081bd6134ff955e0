"""Tensors to their target types, in blocks of rows, on all cores.

One tensor is cut into blocks of rows; blocks are read, converted and handed on in order while the next ones
are in work. Memory is thus bounded by a few blocks, for a tensor of any size.

The kernels are those of the ``libggml-base`` that llama-cpp-python installs, so a tensor gets the very bytes that
``llama-quantize`` of the same version would write. The library alone is loaded, not llama.cpp.
"""

import ctypes
import importlib.util
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as GGMLType
from numpy.typing import NDArray

from glmserve.convert.checkpoint.reader import TensorSource
from glmserve.convert.errors import KernelError, TensorValueError
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


BLOCK_VALUES = 1 << 20
"""Values per block: 4 MiB as float32, enough for a thread to be busy for milliseconds."""


@dataclass(frozen=True, slots=True)
class QuantizeJob:
    """One tensor to convert."""

    source: str
    """Name in the checkpoint."""
    rows: int
    columns: int
    type: GGMLType
    importance: NDArray[np.float32] | None = field(default=None, compare=False)
    """How much each column matters, where that is known."""


@dataclass(frozen=True, slots=True)
class EncodedBlock:
    """Some rows of a tensor in their final encoding."""

    job: QuantizeJob
    data: NDArray[np.uint8]
    is_last: bool
    """Of its tensor."""


@dataclass(frozen=True, slots=True)
class _Span:
    job: QuantizeJob
    first: int
    count: int


def default_threads() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def quantize_all(
    source: TensorSource, jobs: Iterable[QuantizeJob], kernels: Kernels, threads: int
) -> Iterator[EncodedBlock]:
    """Yield all blocks of all jobs, in order.

    At most ``2 * threads`` blocks are in memory beside the one yielded.

    Raises:
        CheckpointError: a tensor cannot be read, or holds values that are not finite.
    """
    pending: deque[tuple[_Span, Future[NDArray[np.uint8]]]] = deque()
    # One more than cores: while one waits for its rows, the others compute.
    with ThreadPoolExecutor(threads + 1, thread_name_prefix="quantize") as pool:
        try:
            for span in _spans(jobs):
                pending.append((span, pool.submit(_encode, source, span, kernels)))
                if len(pending) > 2 * threads:
                    yield _finished(*pending.popleft())
            while pending:
                yield _finished(*pending.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _spans(jobs: Iterable[QuantizeJob]) -> Iterator[_Span]:
    for job in jobs:
        step = max(1, BLOCK_VALUES // job.columns)
        for first in range(0, job.rows, step):
            yield _Span(job, first, min(step, job.rows - first))


def _encode(source: TensorSource, span: _Span, kernels: Kernels) -> NDArray[np.uint8]:
    rows = source.read_rows(span.job.source, span.first, span.count)
    # The kernels make finite nonsense of NaN and infinity, so the input has to be checked; the output as
    # well, because a finite float32 can be too large for float16, which most types use for their scales.
    if not np.isfinite(rows).all():
        raise TensorValueError(span.job.source, span.job.type.name)
    data = kernels.quantize(rows, span.job.type, span.job.importance)
    if not kernels.is_valid(data, span.job.type):
        raise TensorValueError(span.job.source, span.job.type.name)
    return data


def _finished(span: _Span, future: Future[NDArray[np.uint8]]) -> EncodedBlock:
    return EncodedBlock(span.job, future.result(), is_last=span.first + span.count == span.job.rows)
