"""How many cores steps leave to other programs that use them, too. Pure: times are passed in.

llama.cpp's threads wait for each other hundreds of times in a step. Where another program runs on one of their cores,
all of them wait, each time, until the kernel lets the last one go on: on two cores beside one busy process, a token of
a 0.9B model took 44 to 530 ms with two threads and 31 to 63 with one, against 24 with two on a quiet machine.

With a program that takes a share d of one of n cores, n threads are as fast as n (1 - d), and one less as n - 1. So a
thread is given up where more than 1/n of a core is missed. What is missed can be seen only with all threads, so these
are tried again from time to time.
"""

import math

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
