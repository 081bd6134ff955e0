"""Computes batches with the threads that are best just now."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import llama_cpp

from glmserve.engine.llama.cpu_contention import MOST_ROWS, CpuContention
from glmserve.engine.llama.placement import Placement

log = logging.getLogger(__name__)


class AdaptiveThreads:
    """All threads, or fewer while other programs use the cores."""

    def __init__(self, context: llama_cpp.llama_context_p, placement: Placement) -> None:
        """Take over ``context``, which has the threads of ``placement``."""
        self._context = context
        self._all = self._threads = (placement.threads, placement.threads_batch)
        self._cores = CpuContention(placement.threads_batch) if placement.threads_vary else None

    @contextmanager
    def single(self) -> Iterator[None]:
        """Compute with one thread while the block runs."""
        llama_cpp.llama_set_n_threads(self._context, 1, 1)
        try:
            yield
        finally:
            llama_cpp.llama_set_n_threads(self._context, *self._threads)

    def decode(self, batch: llama_cpp.llama_batch) -> int:
        """Compute ``batch``; return the result of ``llama_decode``."""
        if self._cores is None or batch.n_tokens > MOST_ROWS:
            self._give_up(0)
            return int(llama_cpp.llama_decode(self._context, batch))
        self._give_up(self._cores.spared)
        threads = self._threads[batch.n_tokens > 1]
        started, cpu_started = time.perf_counter(), time.process_time()
        code = int(llama_cpp.llama_decode(self._context, batch))
        self._cores.observe(threads, time.perf_counter() - started, time.process_time() - cpu_started)
        return code

    def _give_up(self, spared: int) -> None:
        one, more = (max(1, threads - spared) for threads in self._all)
        if (one, more) != self._threads:
            self._threads = (one, more)
            llama_cpp.llama_set_n_threads(self._context, one, more)
            log.debug("computing with %d of %d threads", more, self._all[1])
