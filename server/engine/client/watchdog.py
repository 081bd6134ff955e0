"""Detection of a hung process, which has work and sends nothing: it was stopped, or a step does not end."""

import asyncio
from collections.abc import Callable

_LATE_SECONDS = 1.0
"""A timer that fires later than this shows that this process itself was paused, so it says nothing of the worker."""


class Watchdog:
    """Reports a process that has work and sends nothing for too long. Belongs to one event loop."""

    def __init__(self, seconds: float, has_work: Callable[[], bool], on_silence: Callable[[], None]) -> None:
        """``on_silence`` is called after ``seconds`` of silence, once for each ``start``; 0 seconds never do that."""
        self._seconds = seconds
        self._has_work = has_work
        self._on_silence = on_silence
        self._heard = 0.0
        """When something was last heard, on the loop's clock."""
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def start(self) -> None:
        """Begin to watch: there was no work, and now there is."""
        self.heard()
        if self._timer is None and self._seconds:
            self._look_in(self._seconds)

    def heard(self) -> None:
        """Note a sign of life. As cheap as can be, because there is one for each step: the timer stays as it is."""
        self._heard = asyncio.get_running_loop().time()

    def _look(self) -> None:
        self._timer = None
        if not self._has_work():
            return
        now = asyncio.get_running_loop().time()
        if now - self._due > _LATE_SECONDS:
            self._heard = now
        left = self._heard + self._seconds - now
        if left > 0:
            self._look_in(left)
        else:
            self._on_silence()

    def _look_in(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._due = loop.time() + seconds
        self._timer = loop.call_at(self._due, self._look)
