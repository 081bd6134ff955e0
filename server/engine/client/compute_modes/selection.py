"""The compute modes of one engine: a mode that works is remembered, a failure is logged."""

import logging
import threading
from dataclasses import replace

from glmserve.engine.client.compute_modes.fallback import ComputeFallback
from glmserve.engine.client.compute_modes.memory import ModeMemory
from glmserve.engine.compute_mode import ComputeMode
from glmserve.engine.config import EngineConfig
from glmserve.engine.messages import EngineInfo

log = logging.getLogger(__name__)


class EngineModes:
    """Chooses the mode of the next process. The methods that follow a process belong to one thread."""

    def __init__(self, config: EngineConfig) -> None:
        """Nothing is read yet. A ``config`` that names a mode begins with that one."""
        self._config = config
        self._name = config.model_path.name
        self._memory = ModeMemory(config.mode_dir, config.model_path)
        self._fallback: ComputeFallback | None = None

    def next_config(self) -> EngineConfig:
        """Return the configuration of the next process. Reads the disk at the first call."""
        if self._fallback is None:
            self._fallback = ComputeFallback(self._first())
        self._fallback.started()
        return replace(self._config, compute_mode=self._fallback.mode)

    def _first(self) -> ComputeMode:
        remembered = self._memory.load()
        if remembered is None:
            return self._config.compute_mode
        log.warning(
            "%s runs %s, because %s; remove %s to try all modes again",
            self._name, remembered.mode.in_words, remembered.reason, remembered.file,
        )  # fmt: skip
        return remembered.mode

    def self_testing(self) -> None:
        """The process has loaded the model, and tests itself."""
        self._known.self_testing()

    def ready(self, info: EngineInfo) -> None:
        """The process works; remember its mode, where faster ones did not work."""
        mode, failed = self._known.mode, self._known.ready()
        how = "" if mode is ComputeMode.STANDARD else f", {mode.in_words}"
        log.info("%s was loaded in %.1f s on %s%s", self._name, info.load_seconds, info.device, how)
        if failed:
            self._remember(mode, "; ".join(map(str, failed)))

    def _remember(self, mode: ComputeMode, reason: str) -> None:
        try:
            threading.Thread(target=self._memory.save, args=(mode, reason), name="mode-writer").start()
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
