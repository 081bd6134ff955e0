"""What engine processes load that is wrong for this machine, in one compute mode or in all; importable by the process.

All run the real llama.cpp; what is wrong is put between it and the self-test.
"""

import ctypes
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from glmserve.engine.config import ComputeMode, EngineConfig
from glmserve.engine.kernel_timing import Trying
from glmserve.engine.llama.runner import LlamaModelRunner
from glmserve.engine.model_runner import ModelRunner
from glmserve.engine.worker.entry import load_llama

Rows = NDArray[np.float32]


def load_crashing(config: EngineConfig) -> ModelRunner:
    """In the standard mode, batches of several tokens read from address 0, as they fault on AMX."""
    return _spoiled(config, _read_from_nowhere, only=ComputeMode.STANDARD)


def load_miscomputing(config: EngineConfig) -> ModelRunner:
    """In the standard mode, batches of several tokens give the outputs of others."""
    return _spoiled(config, lambda rows: rows[::-1], only=ComputeMode.STANDARD)


def load_never_right(config: EngineConfig) -> ModelRunner:
    """In every mode, batches of several tokens give no numbers."""
    return _spoiled(config, lambda rows: np.full_like(rows, np.nan))


def _spoiled(config: EngineConfig, spoil: Callable[[Rows], Rows], only: ComputeMode | None = None) -> ModelRunner:
    runner = load_llama(config)
    assert isinstance(runner, LlamaModelRunner)
    compute = runner.logits

    def spoiled(ids: tuple[int, ...], start: int) -> Rows:
        rows = compute(ids, start)
        return spoil(rows) if len(ids) > 1 else rows

    if only in (None, config.compute_mode):
        patch.object(runner, "logits", spoiled).start()
    return runner


def _read_from_nowhere(rows: Rows) -> Rows:
    ctypes.string_at(0)
    return rows


def crash_when_repacked(connection: Connection, _config: EngineConfig) -> None:
    """A trial of the kernels that ends as AMX ends it."""
    connection.send(Trying(repack=False))
    connection.send(Trying(repack=True))
    ctypes.string_at(0)


def measure_nothing(_connection: Connection, _config: EngineConfig) -> None:
    """A trial that is not to be run."""
    sys.exit(3)
