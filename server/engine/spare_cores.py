"""How many cores a small step leaves to other programs that use them, too. Pure: times are passed in.

llama.cpp's threads wait for each other hundreds of times in a step. Where another program runs on one of their cores,
all of them wait, each time, until the kernel lets the last one go on: on two cores beside one busy process, a token of
a 0.9B model took 44 to 530 ms with two threads and 40 to 63 with one, against 24 with two on a quiet machine. A step of
many rows has as few waits and far more between them, and does best with all threads.
"""

from collections import deque
from statistics import median

SMALL_ROWS = 8
"""Rows up to which a step is small."""

MISSED = 0.25
"""Cores' worth of time that the threads asked for and did not get, from which on fewer may be faster."""

_SETTLED_STEPS = 5
_TRIED_STEPS = 3
"""Steps whose median counts: of what is in use, and of what is tried."""

_FASTER = 0.95
"""A try must take less than this share of the time of what is in use to replace it."""

_HOPELESS = 2.0
"""A step of so many times that ends the try: one beside a busy process may take ten."""

_FIRST_REST = 1.0
_LONGEST_REST = 32.0
"""Seconds of steps between two tries; twice as many after each that was no gain."""


class SpareCores:
    """Tries fewer threads when those there are do not get their cores, and all of them again from time to time."""

    def __init__(self, threads: int) -> None:
        """Begin with all ``threads``."""
        self.spared = 0
        """Threads that the next small step does without."""
        self._threads = threads
        self._settled = 0
        self._settled_seconds = 0.0
        self._trying = False
        self._rows = 0
        self._steps: deque[tuple[float, float]] = deque(maxlen=_SETTLED_STEPS)
        self._rest = 0.0
        self._next_rest = _FIRST_REST

    def observe(self, rows: int, seconds: float, cpu_seconds: float) -> None:
        """Learn from a small step: how long it took, and how much time of cores all threads together got."""
        if rows != self._rows:
            self._rows = rows
            self._start(self._settled)
        self._steps.append((seconds, cpu_seconds))
        self._rest -= seconds
        if self._trying:
            if len(self._steps) == _TRIED_STEPS or seconds > _HOPELESS * self._settled_seconds:
                self._judge()
        elif self._rest <= 0 and len(self._steps) == _SETTLED_STEPS and (other := self._worth_a_try()) != self.spared:
            self._settled_seconds = self._median
            self._start(other, trying=True)

    @property
    def _median(self) -> float:
        return median(seconds for seconds, _ in self._steps)

    def _worth_a_try(self) -> int:
        if self.spared:
            return 0
        used = sum(cpu for _, cpu in self._steps) / sum(seconds for seconds, _ in self._steps)
        return 0 if used > self._threads - MISSED else max(0, self._threads - max(1, int(used)))

    def _judge(self) -> None:
        if self._median < _FASTER * self._settled_seconds:
            self._settled = self.spared
            self._next_rest = _FIRST_REST
        self._rest = self._next_rest
        self._next_rest = min(_LONGEST_REST, 2 * self._next_rest)
        self._start(self._settled)

    def _start(self, spared: int, *, trying: bool = False) -> None:
        self.spared, self._trying = spared, trying
        self._steps.clear()
