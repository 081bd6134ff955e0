"""Tensors to their target types, in blocks of rows, on all cores.

One tensor is cut into blocks of rows; blocks are read, converted and handed on in order while the next ones
are in work. Memory is thus bounded by a few blocks, whatever the size of a tensor.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from gguf import GGMLQuantizationType as GGMLType
from numpy.typing import NDArray

from glmserve.convert.checkpoint.reader import TensorSource
from glmserve.convert.errors import TensorValueError
from glmserve.convert.quantize.ggml_kernels import Kernels

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
