"""The embedding model or reranker that computes: one llama.cpp model and a context without a cache."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import llama_cpp
import numpy as np
from gguf import GGMLQuantizationType

from glmserve.engine.config import EngineConfig
from glmserve.engine.embedding.core import EmbeddingRunner
from glmserve.engine.embedding.exact_gelu import exact_gelu
from glmserve.engine.errors import ModelLoadError, SelfTestFailed
from glmserve.engine.gguf.gguf_check import ModelFacts, open_header
from glmserve.engine.llama.model_loading import load_weights, ordinary_tokens
from glmserve.engine.llama.placement import Placement, place, probe
from glmserve.engine.llama.runner import ATTENTION_TILE_CPU
from glmserve.engine.llama.self_test import MOST_ROWS, check_scores, check_vectors
from glmserve.engine.llama.threads import AdaptiveThreads
from glmserve.engine.llama.token_batch import TokenBatch
from glmserve.engine.messages import EngineInfo
from glmserve.engine.model_runner import DecodeError

log = logging.getLogger(__name__)

_MOST_INPUTS = 64
"""Of one batch; each is a sequence of its own to llama.cpp."""

_FEW_TOKENS = ATTENTION_TILE_CPU
_MANY_TOKENS = 1024
"""Of a batch whose attention is computed in f32: with few tokens that of every file, with many that of a file in f32.

Flash attention on a CPU rounds keys and values to f16, and in a batch of few tokens its sums, too. The vectors of
bge-base change by 2e-5, or 7e-5. Without it they are exact to 1e-7. That is as fast with few tokens, and takes a fifth
to a third longer with many; its room grows with the square, to 64 MiB with 16 heads.
"""


class LlamaEmbedder(EmbeddingRunner):
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
        exact_tokens = 0 if placement.gpu_layers else _MANY_TOKENS if _is_f32(facts.path) else _FEW_TOKENS
        self._contexts = _open_all(self._model, placement, self.most_tokens, exact_tokens)
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
        context = next(one for one in self._contexts if self._batch.native.n_tokens <= one.capacity)
        return context.encode(self._batch.native, len(inputs), self._size)

    def close(self) -> None:
        """Free everything."""
        for context in self._contexts:
            context.close()
        llama_cpp.llama_model_free(self._model)


class _Context:
    """A context of llama.cpp for batches of up to ``capacity`` tokens."""

    def __init__(self, model: llama_cpp.llama_model_p, placement: Placement, capacity: int, attention: int) -> None:
        """Open it. Raises ModelLoadError."""
        self.capacity = capacity
        self._native = _open(model, placement, capacity, attention)
        # Beside other engines: a query computes with fewer threads while they use the cores.
        self._threads = AdaptiveThreads(self._native, placement, llama_cpp.llama_encode)

    def encode(self, batch: llama_cpp.llama_batch, inputs: int, size: int) -> tuple[bytes, ...]:
        """Compute ``batch``; return the ``size`` numbers of each of its ``inputs``. Raises DecodeError."""
        code = self._threads.decode(batch)
        if code:
            raise DecodeError(f"llama_encode answered {code}")
        return tuple(self._vector(index, size) for index in range(inputs))

    def close(self) -> None:
        """Free it."""
        llama_cpp.llama_free(self._native)

    def _vector(self, sequence: int, size: int) -> bytes:
        pooled = llama_cpp.llama_get_embeddings_seq(self._native, sequence)
        if not pooled:
            raise DecodeError("llama.cpp gave no vector")
        vector = np.ctypeslib.as_array(pooled, shape=(size,)).astype(np.float32)
        if not np.isfinite(vector).all():
            raise DecodeError("the vector has values that are not finite")
        return bytes(vector.tobytes())


def _is_f32(path: Path) -> bool:
    return all(tensor.type is GGMLQuantizationType.F32 for tensor in open_header(path).tensors)


def _open_all(
    model: llama_cpp.llama_model_p, placement: Placement, most_tokens: int, exact_tokens: int
) -> tuple[_Context, ...]:
    """Return the contexts for batches of all sizes, that for up to ``exact_tokens`` first."""
    contexts = []
    if few := min(exact_tokens, most_tokens):
        contexts.append(_Context(model, placement, few, llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED))
    if few < most_tokens:
        contexts.append(_Context(model, placement, most_tokens, llama_cpp.LLAMA_FLASH_ATTN_TYPE_AUTO))
    return tuple(contexts)


def _open(
    model: llama_cpp.llama_model_p, placement: Placement, capacity: int, attention: int
) -> llama_cpp.llama_context_p:
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = capacity
    params.n_seq_max = _MOST_INPUTS
    params.kv_unified = True
    params.embeddings = True  # pooled as the file says
    params.flash_attn_type = attention
    params.n_threads = placement.threads
    params.n_threads_batch = placement.threads_batch
    params.no_perf = True
    try:
        params.cb_eval = exact_gelu()
    except (OSError, AttributeError, ValueError) as error:
        log.warning("GELU is approximated by tanh: this build of llama.cpp has another form (%s)", error)
    context = llama_cpp.llama_init_from_model(model, params)
    if not context:
        raise ModelLoadError(f"no memory for a batch of {capacity} tokens; lower --context")
    return context
