"""The compute mode in which an engine process is started, and the next one when it dies before it is ready."""

import logging
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from glmserve.engine.client.machine_records import SelfTestRecord, record_path
from glmserve.engine.config import ComputeMode, EngineConfig
from glmserve.engine.files import content_fingerprint, read_json, write_json
from glmserve.engine.kernel_timing import KernelChoice
from glmserve.engine.messages import EngineInfo

_CRASHES = frozenset({signal.SIGILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGABRT})
"""Signals by which code that is wrong for a machine ends. SIGKILL comes from outside: no mode changes that."""

_REMEDIES: Mapping[bool, str] = MappingProxyType(
    {
        True: (
            "this build of llama.cpp was made for another CPU; compile it on this machine (make install, without "
            "LLAMA_WHEEL, or glmserve build-llama) or install one for any CPU"
        ),
        False: "the model file is damaged, or this build of llama.cpp does not work on this CPU: install it again",
    }
)


def is_crash(exitcode: int | None) -> bool:
    """Return whether a process that ended with ``exitcode`` may have been ended by code that is wrong here."""
    return exitcode is not None and -exitcode in _CRASHES


def how_ended(exitcode: int | None) -> str:
    """Return how a process ended, in words that follow its name."""
    if exitcode is not None and exitcode < 0:
        return f"was ended by {signal.Signals(-exitcode).name}"
    return f"ended with exit code {exitcode}"


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
        """Return why no mode works, with a remedy; clear the failures."""
        failures, self.failures = self.failures, ()
        remedy = _REMEDIES[all("SIGILL" in failure.how for failure in failures)]
        return f"{remedy}. No compute mode works: {'; '.join(map(str, failures))}"


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Remembered:
    """A mode that works where faster ones did not."""

    mode: ComputeMode
    reason: str
    """How the faster ones failed."""
    file: Path | None = None
    """Where that is kept; without it, the next start tries all modes again."""


class ModeMemory:
    """A small file for each model file, build and CPU. A fault here costs a few tries at the next start."""

    def __init__(self, folder: Path | None, model: Path) -> None:
        """Keep it in ``folder``, or nowhere where that is None."""
        self._folder = folder
        self._model = model

    def load(self) -> Remembered | None:
        """Return the remembered mode. Reads the disk."""
        try:
            path = self._path()
            if path is None or not path.is_file():
                return None
            kept = read_json(path)
            return Remembered(ComputeMode(kept["mode"]), str(kept["reason"]), path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("the remembered compute mode of %s cannot be read: %s", self._model.name, error)
            return None

    def save(self, mode: ComputeMode, reason: str) -> Path | None:
        """Remember ``mode``; return where, or None where it is not kept. Writes to the disk."""
        try:
            path = self._path()
            if path is None:
                return None
            write_json(path, {"mode": mode.value, "reason": reason, "model": str(self._model)})
        except OSError as error:
            log.warning("the compute mode of %s could not be saved: %s", self._model.name, error.strerror or error)
            return None
        return path

    def _path(self) -> Path | None:
        return record_path(self._folder, "", content_fingerprint(self._model)) if self._folder else None


class EngineModes:
    """Chooses the mode of the next process. The methods that follow a process belong to one thread."""

    def __init__(self, config: EngineConfig, choose_kernels: Callable[[], KernelChoice | None]) -> None:
        """Nothing is read yet. A ``config`` that names a mode begins with that one, else ``choose_kernels`` decides."""
        self._config = config
        self._choose_kernels = choose_kernels
        self._testing: SelfTestRecord | None = None
        self._name = config.model_path.name
        self._memory = ModeMemory(config.mode_dir, config.model_path)
        self._fallback: ComputeFallback | None = None

    def next_config(self) -> EngineConfig:
        """Return the configuration of the next process. Reads the disk."""
        if self._fallback is None:
            self._fallback = ComputeFallback(self._first())
        self._fallback.started()
        config = replace(self._config, compute_mode=self._fallback.mode)
        record = SelfTestRecord.of(config)
        self._testing = None if record.passed else record
        return replace(config, self_test=self._testing is not None)

    def _first(self) -> ComputeMode:
        remembered = self._memory.load()
        if remembered is None:
            return self._fastest() if self._config.compute_mode is ComputeMode.STANDARD else self._config.compute_mode
        log.warning(
            "%s runs %s, because %s; remove %s to try all modes again",
            self._name, remembered.mode.in_words, remembered.reason, remembered.file,
        )  # fmt: skip
        return remembered.mode

    def _fastest(self) -> ComputeMode:
        choice = self._choose_kernels()
        if choice is None:
            return ComputeMode.STANDARD
        how = "repacked" if choice.repack else "used as they lie in the file"
        log.info("%s: weights are %s: %s", self._name, how, choice.reason)
        return ComputeMode.STANDARD if choice.repack else ComputeMode.NO_EXTRA_BUFFERS

    def self_testing(self) -> None:
        """The process has loaded the model, and tests itself."""
        self._known.self_testing()

    def ready(self, info: EngineInfo) -> None:
        """The process works; record its self-test, and its mode where faster ones did not work."""
        mode, failed = self._known.mode, self._known.ready()
        how = "" if mode is ComputeMode.STANDARD else f", {mode.in_words}"
        log.info("%s was loaded in %.1f s on %s%s", self._name, info.load_seconds, info.device, how)
        if failed:
            reason = "; ".join(map(str, failed))
            self._in_background(lambda: self._memory.save(mode, reason))
        if (record := self._testing) is not None:
            self._in_background(record.save)

    def _in_background(self, save: Callable[[], object]) -> None:
        try:
            threading.Thread(target=save, name="mode-writer").start()
        except RuntimeError as error:
            log.warning("the compute mode of %s could not be saved: %s", self._name, error)

    def failed(self, how: str, *, crashed: bool) -> bool:
        """The process crashed before it was ready, or computed wrong. Return whether there is a safer mode: the next.

        ``how`` is in words that follow "the engine process", or says what is wrong.
        """
        modes = self._known
        if not (modes.crashed(how) if crashed else modes.failed(f"computed wrong results: {how}")):
            return False
        log.warning("%s: %s; trying %s, which may be slower", self._name, modes.failures[-1], modes.mode.in_words)
        return True

    def give_up(self) -> str:
        """Return why no mode works, with a remedy."""
        return self._known.give_up()

    @property
    def _known(self) -> ComputeFallback:
        assert self._fallback is not None, "no process was started yet"
        return self._fallback
