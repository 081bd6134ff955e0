"""How many threads compute: the fastest number, found by trial, and fewer while other programs use the cores.

llama.cpp's threads wait for each other hundreds of times in a step. Where another program runs on one of their cores,
all of them wait, each time, until the kernel lets the last one go on: on two cores beside one busy process, a token of
a 0.9B model took 44 to 530 ms with two threads and 31 to 63 with one, against 24 with two on a quiet machine.

With a program that takes a share d of one of n cores, n threads are as fast as n (1 - d), and one less as n - 1. So a
thread is given up where more than 1/n of a core is missed. What is missed can be seen only with all threads, so these
are tried again from time to time.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import llama_cpp

from glmserve.engine.errors import ModelLoadError
from glmserve.engine.llama.cpu_topology import best, measure
from glmserve.engine.llama.placement import Placement

MOST_ROWS = 48
"""Above this number of rows all threads are used: other threads take over the work of one without a core.
64 streams of the embedded model are a tenth slower with one thread."""

LEAST_MISSED = 0.25
"""Missed time in cores that is always tolerated: the kernel and short-lived programs take some."""

_SECONDS = 0.1
"""Minimum duration of a measurement of missed time."""

_MEASUREMENTS = 2
"""Consecutive measurements that must miss a core."""

_FIRST_REST = 1.0
_LONGEST_REST = 32.0
"""Seconds of steps until all threads are tried again; twice as many each time that a core is missed again."""

_RECOVERY = 0.9
"""Factor of the next rest for each measurement that missed nothing."""


class CpuContention:
    """Gives up threads that do not get their cores, and tries all of them again from time to time."""

    def __init__(self, threads: int) -> None:
        """Begin with all ``threads``."""
        self.spared = 0
        """Threads that the next step does without."""
        self._threads = threads
        self._may_miss = max(LEAST_MISSED, 1 / threads)
        self._in_a_row = 0
        self._rest = 0.0
        self._next_rest = _FIRST_REST
        self._seconds = self._seconds_missed = 0.0

    def observe(self, threads: int, seconds: float, cpu_seconds: float) -> None:
        """Learn from a step of ``threads``: how long it took, and how much time of cores they got together."""
        if self.spared:
            self._rest -= seconds
            if self._rest <= 0:
                self.spared = 0
            return
        self._seconds += seconds
        self._seconds_missed += threads * seconds - cpu_seconds
        if self._seconds >= _SECONDS:
            self._judge(self._seconds_missed / self._seconds)
            self._seconds = self._seconds_missed = 0.0

    def _judge(self, missed: float) -> None:
        if missed <= self._may_miss:
            self._in_a_row = 0
            self._next_rest = max(_FIRST_REST, _RECOVERY * self._next_rest)
            return
        self._in_a_row += 1
        if self._in_a_row < _MEASUREMENTS:
            return
        self._in_a_row = _MEASUREMENTS - 1  # one is enough to see that nothing has changed
        self.spared = min(self._threads - 1, math.ceil(missed))
        self._rest, self._next_rest = self._next_rest, min(_LONGEST_REST, 2 * self._next_rest)


log = logging.getLogger(__name__)


class AdaptiveThreads:
    """All threads, or fewer while other programs use the cores."""

    def __init__(
        self,
        context: llama_cpp.llama_context_p,
        placement: Placement,
        compute: Callable[[llama_cpp.llama_context_p, llama_cpp.llama_batch], int] = llama_cpp.llama_decode,
    ) -> None:
        """Take over ``context``, which has the threads of ``placement``, and ``compute`` batches with it."""
        self._context = context
        self._compute = compute
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
        """Compute ``batch``; return the result of ``llama_decode`` or ``llama_encode``."""
        if self._cores is None or batch.n_tokens > MOST_ROWS:
            self._give_up(0)
            return int(self._compute(self._context, batch))
        self._give_up(self._cores.spared)
        threads = self._threads[batch.n_tokens > 1]
        started, cpu_started = time.perf_counter(), time.process_time()
        code = int(self._compute(self._context, batch))
        self._cores.observe(threads, time.perf_counter() - started, time.process_time() - cpu_started)
        return code

    def _give_up(self, spared: int) -> None:
        one, more = (max(1, threads - spared) for threads in self._all)
        if (one, more) != self._threads:
            self._threads = (one, more)
            llama_cpp.llama_set_n_threads(self._context, one, more)
            log.debug("computing with %d of %d threads", more, self._all[1])


PROMPT_ROWS = 32
"""Tokens of a step that stands for prompts: products of matrices take most of its time, as in larger ones."""

TRIAL_SECONDS = 1.0
"""No step is begun after; one step of a 6B model takes 0.05 s on sixteen cores and 0.3 s on two."""


def settle_threads(context: llama_cpp.llama_context_p, placement: Placement) -> Placement:
    """Measure and set the numbers of threads that ``placement`` leaves open. ``context`` is empty before and after.

    Raises:
        ModelLoadError: the model cannot compute a token.
    """
    one, more = placement.threads, placement.threads_batch
    if placement.threads_to_try:
        one = _fastest(context, 1, placement.threads_to_try)
    if placement.threads_batch_to_try:
        more = _fastest(context, min(PROMPT_ROWS, placement.context_length), placement.threads_batch_to_try)
    llama_cpp.llama_set_n_threads(context, one, more)
    return replace(placement, threads=one, threads_batch=more)


def _fastest(context: llama_cpp.llama_context_p, rows: int, to_try: tuple[int, ...]) -> int:
    """Return the number of threads that computes ``rows`` tokens the fastest."""
    tokens = (llama_cpp.llama_token * rows)()

    def step(threads: int) -> None:
        llama_cpp.llama_set_n_threads(context, threads, threads)
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), False)
        if code := llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(tokens, rows)):
            raise ModelLoadError(f"the model was loaded, but computing a token failed: llama_decode answered {code}")

    step(to_try[0])  # the first step touches all weights for the first time
    seconds = measure(step, to_try, TRIAL_SECONDS, time.monotonic)
    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), False)
    threads = best(seconds)
    figures = ", ".join(f"{number} threads {1000 * best_of:.1f} ms" for number, best_of in sorted(seconds.items()))
    work = "generating" if rows == 1 else "prefill"
    log.info("%s with %d threads; measured times of a step of %d tokens: %s", work, threads, rows, figures)
    return threads
