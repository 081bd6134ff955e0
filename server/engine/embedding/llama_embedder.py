"""The embedding model or reranker that computes: one llama.cpp model and a context without a cache."""

from __future__ import annotations

import ctypes
import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path

import llama_cpp
import numpy as np

from glmserve.engine.config import EngineConfig
from glmserve.engine.embedding.core import EmbeddingBackend
from glmserve.engine.errors import ModelLoadError, SelfTestFailed
from glmserve.engine.gguf.gguf_check import ModelFacts
from glmserve.engine.llama.model_loading import load_weights, ordinary_tokens
from glmserve.engine.llama.placement import Placement, place, probe
from glmserve.engine.llama.runner import TokenBatch
from glmserve.engine.llama.self_test import MOST_ROWS, check_scores, check_vectors
from glmserve.engine.llama.threads import AdaptiveThreads
from glmserve.engine.messages import EngineInfo
from glmserve.engine.model_runner import DecodeError

log = logging.getLogger(__name__)

_TABLE = "ggml_table_gelu_f16"
_SIZE = 1 << 16
_LIBRARY = "libggml-cpu.so.0"
"""Of the three copies of the library in the wheel, the one that is loaded."""


def use_exact_gelu() -> bool:
    """Fill the table of this process by the exact function; tell whether the build has one.

    llama.cpp on a CPU looks the GELU of BERT up in a table that is made of an approximation by tanh. The difference to
    the function that the models were trained with reaches 3e-4 in a vector of length 1. With the table filled by the
    function itself it is below 1e-4; what is left is the rounding of the table to f16.

    The table is made when a backend is first used, so llama.cpp has to be initialised before.
    """
    try:
        library = ctypes.CDLL(str(Path(llama_cpp.__file__).parent / "lib" / _LIBRARY))
        table = np.ctypeslib.as_array((ctypes.c_uint16 * _SIZE).in_dll(library, _TABLE))
    except (OSError, ValueError) as error:
        log.info("GELU is approximated by tanh: this build has no table to correct (%s)", error)
        return False
    values = np.arange(_SIZE, dtype=np.uint16).view(np.float16)
    finite = np.isfinite(values)
    exact = [0.5 * x * (1.0 + math.erf(x / math.sqrt(2.0))) for x in values[finite].astype(np.float64).tolist()]
    table[finite] = np.array(exact).astype(np.float16).view(np.uint16)
    return True


_MOST_INPUTS = 64
"""Of one batch; each is a sequence of its own to llama.cpp."""


class LlamaEmbedder(EmbeddingBackend):
    """Loads in its constructor; everything after that is one thread's."""

    def __init__(self, config: EngineConfig, facts: ModelFacts) -> None:
        """Load the model. Raises ModelLoadError; a bad file may end the process instead."""
        started = time.monotonic()
        llama_cpp.llama_backend_init()
        self._model, placement = load_weights(config, facts, place(config, facts, probe()))
        # Every token of an input sees all others, so an input cannot be computed in pieces; and llama.cpp aborts
        # where a batch has less room than there may be sequences.
        self.most_tokens = max(config.batch_size, placement.context_length, _MOST_INPUTS)
        # llama.cpp computes the attention of each token to those of all inputs of a batch, so larger ones cost more.
        self.usual_tokens = max(config.batch_size, _MOST_INPUTS)
        self.most_inputs = _MOST_INPUTS
        self._context = _open(self._model, placement, self.most_tokens)
        # Beside other engines: a query computes with fewer threads while they use the cores.
        self._threads = AdaptiveThreads(self._context, placement, llama_cpp.llama_encode)
        use_exact_gelu()
        self._batch = TokenBatch(self.most_tokens)
        self._size = 1 if facts.ranks else int(llama_cpp.llama_model_n_embd(self._model))
        self.info = EngineInfo(
            context_length=placement.context_length,
            cache_cells=0,
            parallel=config.parallel,
            vocab_size=facts.vocab_size,
            device=placement.device,
            load_seconds=time.monotonic() - started,
            max_waiting=config.max_waiting,
            embedding_size=self._size,
            ranks=facts.ranks,
            normalizes=facts.normalizes,
        )

    def self_test(self) -> None:
        """Make a few vectors, alone and in one batch, and compare. Raises SelfTestFailed."""
        count = min(MOST_ROWS, self.info.context_length)
        tokens = ordinary_tokens(llama_cpp.llama_model_get_vocab(self._model), count)
        try:
            (check_scores if self.info.ranks else check_vectors)(self.embed, tokens)
        except DecodeError as error:
            raise SelfTestFailed(str(error)) from error

    def embed(self, inputs: Sequence[tuple[int, ...]]) -> tuple[bytes, ...]:
        """Return a vector or a score for each input, as float32 in the machine's order. Raises DecodeError."""
        self._batch.fill_whole(inputs)
        code = self._threads.decode(self._batch.native)
        if code:
            raise DecodeError(f"llama_encode answered {code}")
        return tuple(self._vector(index) for index in range(len(inputs)))

    def close(self) -> None:
        """Free everything."""
        llama_cpp.llama_free(self._context)
        llama_cpp.llama_model_free(self._model)

    def _vector(self, sequence: int) -> bytes:
        pooled = llama_cpp.llama_get_embeddings_seq(self._context, sequence)
        if not pooled:
            raise DecodeError("llama.cpp gave no vector")
        vector = np.ctypeslib.as_array(pooled, shape=(self._size,)).astype(np.float32)
        if not np.isfinite(vector).all():
            raise DecodeError("the vector has values that are not finite")
        return bytes(vector.tobytes())


def _open(model: llama_cpp.llama_model_p, placement: Placement, most_tokens: int) -> llama_cpp.llama_context_p:
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = most_tokens
    params.n_seq_max = _MOST_INPUTS
    params.kv_unified = True
    params.embeddings = True  # pooled as the file says
    params.n_threads = placement.threads
    params.n_threads_batch = placement.threads_batch
    params.no_perf = True
    context = llama_cpp.llama_init_from_model(model, params)
    if not context:
        raise ModelLoadError(f"no memory for a batch of {most_tokens} tokens; lower --context")
    return context
