"""Measures whether weights are faster repacked or as they lie in the file, in a process of its own.

llama.cpp repacks weights into blocks for its kernels of one kind, and has other kernels for weights that were not
repacked. Which ones are faster depends on the types, on the CPU and on the number of rows: on a CPU with AVX-512 a
prompt in q4_k_m is 1.4 times as fast without, in q4_0 1.5 times as fast with it.

One thread computes, and its processor time counts: what other programs do then changes little.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from glmserve.engine.child_process import end_with_parent
from glmserve.engine.config import Device, EngineConfig
from glmserve.engine.errors import ModelLoadError, SelfTestFailed
from glmserve.engine.gguf.first_layers import write_first_layers
from glmserve.engine.gguf.gguf_check import check_gguf
from glmserve.engine.gguf.gguf_header import HeaderError
from glmserve.engine.kernel_timing import (
    ANSWER_ROWS,
    MEASURED_ROWS,
    Measured,
    RowTiming,
    Trying,
    Unmeasured,
    of_whole_model,
    typical,
)
from glmserve.engine.llama.model_loading import ordinary_tokens, route_log
from glmserve.engine.llama.placement import probe
from glmserve.engine.llama.self_test import compare
from glmserve.engine.llama.token_batch import TokenBatch, logits_at

_ROUNDS = 5
_SECONDS = 2.0
"""No round but the first is begun after."""


def run(connection: Connection, config: EngineConfig) -> None:
    """Entry point of the process: sends ``Trying``, then ``Measured`` or ``Unmeasured``."""
    end_with_parent()
    route_log()
    try:
        connection.send(_trial(config, connection.send))
    except (ModelLoadError, HeaderError, OSError, MemoryError) as error:
        connection.send(Unmeasured(str(error) or type(error).__name__))


def _trial(config: EngineConfig, tell: Callable[[Trying], None]) -> Measured | Unmeasured:
    facts = check_gguf(config.model_path)
    if facts.embeds:
        return Unmeasured("only models that generate are measured")
    llama_cpp.llama_backend_init()
    if config.device is not Device.CPU and any(device.kind == "gpu" for device in probe().devices):
        return Unmeasured("a GPU computes")
    if config.mode_dir is not None:
        config.mode_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=config.mode_dir) as file:
        share = write_first_layers(config.model_path, file) / facts.layers
        path = Path(f"/proc/self/fd/{file.fileno()}")
        with _Model.opened(path, repack=False) as as_is, _Model.opened(path, repack=True) as repacked:
            return _measured(as_is, repacked, share, tell)


def _measured(as_is: _Model, repacked: _Model, share: float, tell: Callable[[Trying], None]) -> Measured | Unmeasured:
    """Time both in turns. They have ``share`` of the layers."""
    _timing(as_is, repacked, 1, share, tell)  # reads all weights for the first time
    rounds: list[tuple[RowTiming, ...]] = []
    until = time.monotonic() + _SECONDS
    for _ in range(_ROUNDS):
        rounds.append(tuple(_timing(as_is, repacked, rows, share, tell) for rows in MEASURED_ROWS))
        if time.monotonic() >= until:
            break
    try:
        noise = compare(repacked.outputs(), as_is.outputs(), "weights repacked and not")
    except SelfTestFailed as error:
        return Unmeasured(str(error))
    return Measured(tuple(typical(timings) for timings in zip(*rounds, strict=True)), noise)


def _timing(as_is: _Model, repacked: _Model, rows: int, share: float, tell: Callable[[Trying], None]) -> RowTiming:
    """Time a step of each way, one right after the other."""
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for outputs in dict.fromkeys((0, _outputs(rows))):
        for model in (as_is, repacked):
            tell(Trying(model.repack))
            seconds[model.repack].append(model.seconds_of(rows, outputs))
    whole = {repack: of_whole_model(times[0], times[-1], share) for repack, times in seconds.items()}
    return RowTiming(rows, whole[True], whole[False])


def _outputs(rows: int) -> int:
    return rows if rows <= ANSWER_ROWS else 0


class _Model:
    """The small model, loaded in one of the two ways."""

    def __init__(self, path: Path, *, repack: bool) -> None:
        self.repack = repack
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = 0
        params.use_extra_bufts = repack
        self._model = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
        if not self._model:
            raise ModelLoadError("llama.cpp does not load some layers of the file alone")
        most = max(MEASURED_ROWS)
        self._context = llama_cpp.llama_init_from_model(self._model, _context_params(most))
        if not self._context:
            llama_cpp.llama_model_free(self._model)
            raise ModelLoadError("llama.cpp makes no context for some layers of the file alone")
        vocab = llama_cpp.llama_model_get_vocab(self._model)
        self._vocab_size = int(llama_cpp.llama_vocab_n_tokens(vocab))
        self._tokens = ordinary_tokens(vocab, most)
        self._batch = TokenBatch(most)

    @classmethod
    @contextmanager
    def opened(cls, path: Path, *, repack: bool) -> Iterator[_Model]:
        model = cls(path, repack=repack)
        try:
            yield model
        finally:
            llama_cpp.llama_free(model._context)
            llama_cpp.llama_model_free(model._model)

    def seconds_of(self, rows: int, outputs: int) -> float:
        """Compute a prompt of ``rows`` tokens, the last ``outputs`` of which have one; return the processor time."""
        self._batch.fill_whole((self._tokens[:rows],))
        self._batch.wanted[: rows - outputs] = 0
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), False)
        started = time.process_time()
        code = llama_cpp.llama_decode(self._context, self._batch.native)
        seconds = time.process_time() - started
        if code:
            raise ModelLoadError(f"llama_decode answered {code}")
        return seconds

    def outputs(self) -> NDArray[np.float32]:
        """Return the logits of the last of many tokens."""
        self.seconds_of(len(self._tokens), 1)
        return logits_at(self._context, -1, self._vocab_size)[np.newaxis]


def _context_params(rows: int) -> llama_cpp.llama_context_params:
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = rows
    params.n_threads = params.n_threads_batch = 1
    params.no_perf = True
    return params
