"""The compute mode in which an engine process is started, and the next one when it dies before it is ready."""

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from glmserve.engine.compute_mode import ComputeMode

_CRASHES = frozenset({signal.SIGILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGABRT})
"""Signals by which code that is wrong for a machine ends. SIGKILL comes from outside: no mode changes that."""

_REMEDIES: Mapping[bool, str] = MappingProxyType(
    {
        True: (
            "this build of llama.cpp was made for another CPU; compile it on this machine (make install, without "
            "LLAMA_WHEEL) or install one for any CPU"
        ),
        False: "the model file is damaged, or this build of llama.cpp does not work on this CPU: install it again",
    }
)


def is_crash(exitcode: int | None) -> bool:
    """Return whether a process that ended with ``exitcode`` may have been ended by code that is wrong here."""
    return exitcode is not None and -exitcode in _CRASHES


@dataclass(frozen=True, slots=True)
class Failure:
    """A mode that did not work, and how that was seen."""

    mode: ComputeMode
    how: str
    """In words that follow "llama.cpp"."""

    def __str__(self) -> str:
        return f"llama.cpp {self.how} ({self.mode.in_words})"


class ComputeFallback:
    """The modes of one engine, from the one it is started in to the safest. Pure: time and disk are elsewhere."""

    def __init__(self, first: ComputeMode = ComputeMode.STANDARD) -> None:
        """Begin with ``first``."""
        self._first = first
        self.mode = first
        """Mode of the next process."""
        self.failures: tuple[Failure, ...] = ()
        """Modes that failed since a process was ready, the first one first."""
        self._self_testing = False

    def started(self) -> None:
        """A process was started, and loads."""
        self._self_testing = False

    def self_testing(self) -> None:
        """The process has loaded, and tests itself."""
        self._self_testing = True

    def ready(self) -> tuple[Failure, ...]:
        """Note that ``mode`` works; return the modes that failed before it, since the last time."""
        failed, self.failures = self.failures, ()
        self._first = self.mode
        return failed

    def crashed(self, how: str) -> bool:
        """Note that the process ended before it was ready. See ``failed``."""
        return self.failed(f"{how} while {'it tested itself' if self._self_testing else 'it loaded the model'}")

    def failed(self, how: str) -> bool:
        """Choose the next safer mode; if there is none, return False and reset to the first mode."""
        self.failures += (Failure(self.mode, how),)
        if (safer := self.mode.safer) is None:
            self.mode = self._first
            return False
        self.mode = safer
        return True

    def give_up(self) -> str:
        """Return why no mode works, with a remedy; forget the failures."""
        failures, self.failures = self.failures, ()
        remedy = _REMEDIES[all("SIGILL" in failure.how for failure in failures)]
        return f"{remedy}. No compute mode works: {'; '.join(map(str, failures))}"
