"""Computes batches with the threads that are best just now."""

from __future__ import annotations

import logging
import time

import llama_cpp

from server.engine.placement import Placement
from server.engine.spare_cores import SMALL_ROWS, SpareCores

log = logging.getLogger(__name__)


class SteppingThreads:
    """All threads, or fewer in small batches while other programs use the cores."""

    def __init__(self, context: llama_cpp.llama_context_p, placement: Placement) -> None:
        """Take over ``context``, which has the threads of ``placement``."""
        self._context = context
        self._threads, self._threads_batch = placement.threads, placement.threads_batch
        self._cores = SpareCores(placement.threads) if placement.threads_vary else None
        self._spared = 0

    def decode(self, batch: llama_cpp.llama_batch) -> int:
        """Compute ``batch``; return what ``llama_decode`` does."""
        cores, rows = self._cores, batch.n_tokens
        if cores is None or rows > SMALL_ROWS:
            self._spare(0)
            return int(llama_cpp.llama_decode(self._context, batch))
        self._spare(cores.spared)
        started, cpu_started = time.perf_counter(), time.process_time()
        code = int(llama_cpp.llama_decode(self._context, batch))
        cores.observe(rows, time.perf_counter() - started, time.process_time() - cpu_started)
        return code

    def _spare(self, cores: int) -> None:
        if cores == self._spared:
            return
        self._spared = cores
        threads = (max(1, self._threads - cores), max(1, self._threads_batch - cores))
        llama_cpp.llama_set_n_threads(self._context, *threads)
        log.debug("small steps take %d threads", threads[0])
