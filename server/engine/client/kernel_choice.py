"""Whether an engine repacks weights: asked for, remembered, or measured at the first load of such a file."""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from glmserve.engine.child_process import HelperProcess, start_helper
from glmserve.engine.client.compute_modes import how_ended
from glmserve.engine.client.machine_records import GPU_DRIVER, LARGE_BYTES, record_path
from glmserve.engine.config import EngineConfig, Repack
from glmserve.engine.files import read_json, write_json
from glmserve.engine.gguf.first_layers import type_mix
from glmserve.engine.gguf.gguf_header import HeaderError, read_header
from glmserve.engine.kernel_timing import KernelChoice, Measured, RowTiming, Trying, Unmeasured, choose, struck_off

log = logging.getLogger(__name__)

_SECONDS = 60.0
"""Most time between two messages of the trial, which takes three to five seconds in all."""


class KernelMemory:
    """A small file for each mix of types and shapes, build, CPU and device."""

    def __init__(self, config: EngineConfig) -> None:
        """Keep it in the folder of the compute modes, or nowhere where there is none."""
        self._config = config

    def load(self) -> KernelChoice | None:
        """Return the remembered choice. Reads the disk."""
        try:
            path = self._path()
            if path is None or not path.is_file():
                return None
            kept = read_json(path)
            timings = tuple(RowTiming(**timing) for timing in kept["timings"])  # type: ignore[attr-defined]
            return KernelChoice(bool(kept["repack"]), str(kept["reason"]), timings)
        except (OSError, ValueError, KeyError, TypeError, HeaderError) as error:
            log.warning("the measured kernels of %s cannot be read: %s", self._config.model_path.name, error)
            return None

    def save(self, choice: KernelChoice) -> None:
        """Remember ``choice``. Writes to the disk; a fault costs another trial at the next start."""
        try:
            path = self._path()
            if path is not None:
                write_json(path, asdict(choice))
        except (OSError, HeaderError) as error:
            log.warning("the measured kernels of %s could not be saved: %s", self._config.model_path.name, error)

    def _path(self) -> Path | None:
        folder = self._config.mode_dir
        if folder is None:
            return None
        mix = type_mix(read_header(self._config.model_path))
        return record_path(folder, "kernels-", mix, self._config.device.value, str(GPU_DRIVER.exists()))


def _run(connection: Connection, config: EngineConfig) -> None:
    from glmserve.engine.llama.kernel_trial import run  # noqa: PLC0415 - llama.cpp stays out of the API process

    run(connection, config)


@dataclass(frozen=True, slots=True)
class KernelTrial:
    """Finds the choice for one engine. Blocks for some seconds at the first load of such a file."""

    config: EngineConfig
    least_bytes: int = LARGE_BYTES
    """Size of a file below which nothing is measured: there is little to gain."""
    run: Callable[[Connection, EngineConfig], None] = _run
    """What the process runs; importable there."""

    def known(self) -> KernelChoice | None:
        """Return the choice that was asked for or is remembered. Reads the disk."""
        repack = self.config.repack
        if repack is not Repack.AUTO:
            return KernelChoice(repack is Repack.ON, f"asked for by --repack {repack.value}")
        return KernelMemory(self.config).load() if self._is_worth_it() else None

    def choose(self) -> KernelChoice | None:
        """Return the choice, measured where it is not known; None where there is none, and llama.cpp decides."""
        if (choice := self.known()) is not None:
            return choice
        choice = self._measured() if self._is_worth_it() else None
        if choice is not None:
            KernelMemory(self.config).save(choice)
        return choice

    def _is_worth_it(self) -> bool:
        path = self.config.model_path
        return path.is_file() and path.stat().st_size >= self.least_bytes

    def _measured(self) -> KernelChoice | None:
        name = self.config.model_path.name
        log.info("%s: measuring whether repacked weights are faster on this CPU", name)
        try:
            helper = start_helper(self.run, self.config, name="glmserve-kernels")
        except (OSError, RuntimeError) as error:
            log.warning("%s: the kernels could not be measured: %s", name, error)
            return None
        try:
            return _outcome(helper)
        finally:
            helper.close()


def _outcome(helper: HelperProcess) -> KernelChoice:
    """Follow the messages of the process, to its end."""
    trying: Trying | None = None
    try:
        while helper.connection.poll(_SECONDS):
            said = helper.connection.recv()
            if isinstance(said, Measured):
                return choose(said.timings)
            if isinstance(said, Unmeasured):
                return KernelChoice(True, f"not measured: {said.reason}")
            assert isinstance(said, Trying), said
            trying = said
    except (EOFError, OSError):
        helper.process.join()
        how = how_ended(helper.process.exitcode)
        return KernelChoice(True, f"not measured: llama.cpp {how}") if trying is None else struck_off(trying, how)
    return KernelChoice(True, f"not measured: no answer within {_SECONDS:g} s")
