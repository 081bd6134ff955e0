"""The status of an engine, and when its process is started again: it died, it hangs, or its files were changed."""

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from glmserve.engine.config import EngineConfig
from glmserve.engine.errors import EngineUnavailable, ModelLoadError
from glmserve.engine.files import content_fingerprint
from glmserve.engine.interface import EngineState, EngineStatus

_BACKOFF_SECONDS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Before the first, second, … restart in a row; the last one repeats."""


class Restarts:
    """Counts the tries that failed in a row."""

    def __init__(self, most_in_a_row: int) -> None:
        """Allow ``most_in_a_row`` restarts without an answered request between them."""
        self._most_in_a_row = most_in_a_row
        self._in_a_row = 0
        self.total = 0
        self.has_loaded = False
        """Whether a process has loaded the model: a model that never loaded is not worth another try."""

    def reset(self) -> None:
        """Reset the count: the engine was stopped."""
        self._in_a_row, self.has_loaded = 0, False

    def loaded(self) -> None:
        """A process has loaded the model."""
        self.has_loaded = True

    def answered(self) -> None:
        """A process has computed something, so the next failure is the first one in a row."""
        self._in_a_row = 0

    def next_delay(self, *, anyway: bool = False) -> float | None:
        """Return the seconds before the next try, None if there is none. ``anyway``: even ahead of the first load."""
        if self._in_a_row >= self._most_in_a_row or not (anyway or self.has_loaded):
            return None
        delay = _BACKOFF_SECONDS[min(self._in_a_row, len(_BACKOFF_SECONDS) - 1)]
        self._in_a_row += 1
        self.total += 1
        return delay

    def in_words(self, problem: str) -> str:
        """Return ``problem`` with how often it was met."""
        return f"{problem}, {self._in_a_row + 1} times in a row" if self._in_a_row else problem


class StatusBoard:
    """The status of an engine, and the tasks that wait for a change. Belongs to one event loop."""

    def __init__(self) -> None:
        """Nothing is started yet."""
        self.status = EngineStatus(EngineState.STOPPED, "not started")
        self._changed = asyncio.Condition()

    async def set(self, state: EngineState, reason: str) -> None:
        """Change it, and tell the waiting tasks."""
        self.status = EngineStatus(state, reason)
        await self._announce()

    def set_soon(self, state: EngineState, reason: str) -> None:
        """Change it at once, and tell the waiting tasks as soon as the loop runs."""
        self.status = EngineStatus(state, reason)
        task = asyncio.ensure_future(self._announce())
        task.add_done_callback(lambda done: done.exception())

    async def wait_ready(self, timeout: float) -> None:
        """Wait until READY, at most ``timeout`` seconds. Raises EngineUnavailable or ModelLoadError."""
        waiting = (EngineState.LOADING, EngineState.RESTARTING)
        try:
            async with self._changed:
                await asyncio.wait_for(self._changed.wait_for(lambda: self.status.state not in waiting), timeout)
        except asyncio.TimeoutError:
            raise EngineUnavailable(self.unavailable()) from None
        if self.status.state is EngineState.FAILED:
            raise ModelLoadError(self.status.reason)
        if self.status.state is EngineState.STOPPED:
            raise EngineUnavailable(self.unavailable())

    def unavailable(self) -> str:
        """Say why requests are not taken."""
        return f"the engine accepts no requests now: {self.status.reason or self.status.state.value}"

    async def _announce(self) -> None:
        async with self._changed:
            self._changed.notify_all()


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


log = logging.getLogger(__name__)

_LOOK_SECONDS = 5.0
"""How often to look whether the files were overwritten."""


@dataclass(frozen=True, slots=True)
class _Mark:
    """A file as it was."""

    place: tuple[int, int]
    """Device and inode of the file that an open mapping keeps, independent of its path."""
    version: tuple[int, int]
    """Size and time of change: while they are the same, so is the content."""
    content: str


class FileWatch:
    """Remembers the files of a model when they are first looked at. All methods read the disk, and most block."""

    def __init__(self, config: EngineConfig) -> None:
        """Nothing is looked at yet."""
        tuned = (file for adapter in config.adapters for file in (adapter.lora, adapter.prefix) if file)
        self._paths = (config.model_path, *tuned)
        self._marks: dict[Path, _Mark] = {}

    def replaced(self) -> Path | None:
        """Return a file with another content than at the first call. One that cannot be read is left to the load."""
        return next((path for path in self._paths if self._differs(path)), None)

    def overwritten(self) -> Path | None:
        """Return a file that was changed in place, so that an engine which has it mapped computes with the new bytes.

        A file that another one was put in the place of is no such case: the engine keeps the old one.
        """
        return next(
            (path for path in self._paths if _place(path) == self._place_of(path) and self._differs(path)), None
        )

    async def next_overwritten(self) -> Path:
        """Wait until a file is overwritten, and return it; see ``overwritten``."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                path = await asyncio.to_thread(self.overwritten)
            except Exception as error:  # the system gives no thread, say: the next look may work
                log.warning("could not check whether %s was overwritten: %s", self._paths[0].name, error)
                continue
            if path is not None:
                return path

    def _place_of(self, path: Path) -> tuple[int, int] | None:
        return self._marks[path].place if path in self._marks else None

    def _differs(self, path: Path) -> bool:
        try:
            status = path.stat()
            version = (status.st_size, status.st_mtime_ns)
            known = self._marks.get(path)
            if known is not None and (known.version, known.place) == (version, _of(status)):
                return False
            mark = _Mark(_of(status), version, content_fingerprint(path))
        except OSError:
            return False
        if known is None or known.content == mark.content:  # one that was only touched, or copied back
            self._marks[path] = mark if known is None else _Mark(known.place, version, mark.content)
            return False
        return True


def _of(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _place(path: Path) -> tuple[int, int] | None:
    try:
        return _of(path.stat())
    except OSError:
        return None
