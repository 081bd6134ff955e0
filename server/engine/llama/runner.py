"""The runner that computes: one llama.cpp model and context."""

from __future__ import annotations

import ctypes
import logging
import time
from collections.abc import Mapping
from contextlib import nullcontext

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from glmserve.engine.config import EngineConfig, FlashAttention, KvType
from glmserve.engine.errors import ModelLoadError, SelfTestFailed
from glmserve.engine.files import adapter_fingerprints
from glmserve.engine.gguf.gguf_check import ModelFacts
from glmserve.engine.grammar_backend import ConstraintFactory, PreparedConstraints
from glmserve.engine.kv_cache.ops import (
    EACH_TOKEN,
    CacheOp,
    CacheSnapshot,
    CacheTraits,
    CopyPrefix,
    Drop,
    FreeSlot,
    Load,
    Offload,
    Truncate,
)
from glmserve.engine.llama.adapters import Adapters
from glmserve.engine.llama.model_loading import load_weights, ordinary_tokens, stop_ids, zeros_released
from glmserve.engine.llama.placement import MAX_SLOTS, MEASURED_BYTES, BuildFacts, Placement, cached_slots, place, probe
from glmserve.engine.llama.sampler import Sampler, score
from glmserve.engine.llama.self_test import MOST_ROWS, check_batches, check_sequences
from glmserve.engine.llama.threads import AdaptiveThreads, settle_threads
from glmserve.engine.llama.token_batch import BatchLogits, TokenBatch
from glmserve.engine.messages import EngineInfo, SampledToken
from glmserve.engine.model_runner import DecodeError, Preparation, StateLost
from glmserve.engine.params import SamplingParams
from glmserve.engine.scheduler.batch import BatchItem
from glmserve.engine.sequence import Sequence

log = logging.getLogger(__name__)

ATTENTION_TILE_CPU = 64
"""From this number of rows on, llama.cpp's attention on the CPU reads the cells of all sequences for each
(GGML_FA_TILE_Q of ggml-cpu/common.h); in a smaller batch it skips cells of others."""

_DECODING_LIMIT_CPU = ATTENTION_TILE_CPU - 4
"""A multiple of four, as the kernels for matrices take four rows at a time. 64 streams of the embedded model are more
than twice as fast by it."""

LONG_CONTEXT = 16_384
"""Tokens of a sequence from which the KV cache lies in huge pages. Two cores with AVX2, 3 layers of the 0.9B shape: in
small pages, in the order of their use, a token behind 32,000 others takes 81 ms, in huge ones 78; behind 8,192 others
both take 21. Each tensor of the cache then takes up to 2 MiB more until it is full."""

_DECODE_ERRORS = {1: "no free cells in the KV cache", 2: "aborted", -1: "the batch was invalid"}

_FLASH_ATTENTION = {
    FlashAttention.ON: llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED,
    FlashAttention.OFF: llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED,
}
_KV_TYPES = {KvType.Q8_0: llama_cpp.GGML_TYPE_Q8_0, KvType.Q4_0: llama_cpp.GGML_TYPE_Q4_0}


class LlamaModelRunner:
    """Loads in its constructor; everything after that is one thread's."""

    def __init__(self, config: EngineConfig, facts: ModelFacts) -> None:
        """Load the model. Raises ModelLoadError; a bad file may end the process instead."""
        started = time.monotonic()
        llama_cpp.llama_backend_init()
        build = probe()
        placement = place(config, facts, build)
        # Before the load: a file that is replaced meanwhile must not give its name to what the old one computes.
        fingerprints = adapter_fingerprints(config) if config.state_dir or config.prompt_dir else {}
        self._model, placement = load_weights(config, facts, placement)
        self.cache_traits = _cache_traits(self._model, facts)
        self.repeats = not placement.gpu_layers and self.cache_traits == EACH_TOKEN
        spare = int(self.repeats)  # a slot and a cell for the row that pads a step
        self.slots = min(MAX_SLOTS - spare, placement.slots)
        self.attention_tile = 0 if placement.gpu_layers else ATTENTION_TILE_CPU
        self.decoding_limit = MAX_SLOTS if placement.gpu_layers else _DECODING_LIMIT_CPU
        self._adapters = Adapters(config.adapters, facts, self._model, self.slots)
        self.adapters = self._adapters.loaded
        cells = placement.cache_cells + self._adapters.prefix_cells + config.pinned_cells
        params = _context_params(config, placement, self.slots + spare, cells + spare)
        self._context = _open(self._model, params, cells, placement.context_length)
        placement = settle_threads(self._context, placement)
        self._threads = AdaptiveThreads(self._context, placement)
        self._fingerprints = _with_build(fingerprints, build, placement, params)
        self._is_small = facts.size_bytes < MEASURED_BYTES
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._read_vocabulary(config.end_tokens)
        self._batch_size = config.batch_size
        self._batch = TokenBatch(config.batch_size + config.parallel)
        self._samplers: dict[int, Sampler] = {}
        self._offloaded: dict[int, bytearray] = {}
        self._starts: dict[int, int] = {}
        self.info = self._info(config, placement, cells, time.monotonic() - started)

    def _read_vocabulary(self, end_tokens: tuple[str, ...]) -> None:
        vocab = llama_cpp.llama_model_get_vocab(self._model)
        self._logits = BatchLogits(self._context, int(llama_cpp.llama_vocab_n_tokens(vocab)))
        self.stop_ids = stop_ids(vocab, end_tokens)
        self._constraints = PreparedConstraints(ConstraintFactory(vocab, self.stop_ids))

    def _info(self, config: EngineConfig, placement: Placement, cells: int, seconds: float) -> EngineInfo:
        return EngineInfo(
            context_length=placement.context_length,
            cache_cells=cells,
            parallel=config.parallel,
            vocab_size=self._logits.vocab_size,
            device=placement.in_words,
            load_seconds=seconds,
            prefix_tokens={name: adapter.prefix_length for name, adapter in self.adapters.items()},
            max_waiting=config.max_waiting,
        )

    def self_test(self) -> None:
        """Compute a few tokens in several batches, and of two sequences, and compare. Raises SelfTestFailed."""
        count = min(MOST_ROWS, self.info.context_length, self._batch_size)
        tokens = ordinary_tokens(llama_cpp.llama_model_get_vocab(self._model), count)
        started = time.monotonic()
        # On a busy machine, threads that wait for each other at each operation cost a small model more than they gain.
        with self._threads.single() if self._is_small else nullcontext():
            noise = check_batches(self.logits, lambda start: self._back_to(start, tokens), tokens)
            if self.slots > 1:
                noise = max(noise, check_sequences(self._logits_of, self._free_two, tokens))
        seconds = time.monotonic() - started
        log.debug("the self-test took %.3f s; batch sizes differ by %.3f of the spread", seconds, noise)

    def _back_to(self, start: int, tokens: tuple[int, ...]) -> None:
        """Have the first slot hold the first ``start`` of ``tokens``, more of which it holds."""
        if self.cache_traits.undoes or not start:
            self.apply(Truncate(0, start))
            return
        self.apply(FreeSlot(0))
        self.logits(tokens[:start], 0)

    def logits(self, ids: tuple[int, ...], start: int) -> NDArray[np.float32]:
        """Compute ``ids`` in the first slot, from position ``start`` on; return the logits of each."""
        return self._logits_of((ids,), start)

    def _logits_of(self, inputs: tuple[tuple[int, ...], ...], start: int) -> NDArray[np.float32]:
        self._batch.fill_whole(inputs, start)
        if code := llama_cpp.llama_decode(self._context, self._batch.native):
            raise SelfTestFailed(f"llama_decode answered {code} in the self-test")
        return np.stack([self._logits.row(index) for index in range(sum(map(len, inputs)))])

    def _free_two(self) -> None:
        self.apply(FreeSlot(0))
        self.apply(FreeSlot(1))

    def load_prefix(self, adapter: str, slot: int) -> None:
        """Put the P-Tuning prefix of ``adapter`` into the empty ``slot``."""
        state = self._filler_state(slot, self.adapters[adapter].prefix_length)
        self._adapters.write_prefix(adapter, state)
        if not self.write_state(slot, state):
            raise ModelLoadError(f"the prefix of {adapter} could not be put into the KV cache")

    def state_fingerprint(self, adapter: str) -> str:
        """Return text that differs wherever a sequence state of ``adapter`` would not fit or not be the same."""
        return self._fingerprints.get(adapter, "")

    def read_state(self, slot: int) -> bytearray:
        """Return the state of all cells of ``slot``."""
        size = llama_cpp.llama_state_seq_get_size(self._context, slot)
        state = bytearray(size)
        llama_cpp.llama_state_seq_get_data(self._context, (ctypes.c_uint8 * size).from_buffer(state), size, slot)
        return state

    def write_state(self, slot: int, state: bytearray) -> bool:
        """Restore a state of ``read_state`` into the empty ``slot``.

        False where it does not fit; then it stays empty.
        """
        native = (ctypes.c_uint8 * len(state)).from_buffer(state)
        return bool(llama_cpp.llama_state_seq_set_data(self._context, native, len(state), slot))

    def read_copy(self, key: int) -> bytearray:
        """Return the state of an offloaded prefix, which must not be changed."""
        return self._offloaded[key]

    def put_copy(self, key: int, state: bytearray) -> None:
        """Keep ``state`` as if it had been offloaded as ``key``."""
        self._offloaded[key] = state

    def _filler_state(self, slot: int, length: int) -> bytearray:
        """The state of ``length`` arbitrary tokens in ``slot``, which is empty again after."""
        filler = Sequence(0, (0,) * length, SamplingParams(max_tokens=1), 1)
        for start in range(0, length, self._batch.capacity):
            count = min(self._batch.capacity, length - start)
            self.decode((BatchItem(filler, slot, start, (0,) * count, False),))
        state = self.read_state(slot)
        self.apply(FreeSlot(slot))
        return state

    def apply(self, op: CacheOp) -> None:
        """Carry out a cache operation."""
        if isinstance(op, CopyPrefix):
            llama_cpp.llama_memory_seq_cp(self._memory, op.source, op.target, 0, op.length)
        elif isinstance(op, Offload):
            self._offloaded[op.key] = self.read_state(op.slot)
        elif isinstance(op, Load):
            if not self.write_state(op.slot, self._offloaded.pop(op.key)):
                raise RuntimeError("llama.cpp has no room for an offloaded prefix, contrary to the cache index")
        elif isinstance(op, Drop):
            del self._offloaded[op.key]
        else:
            length = op.length if isinstance(op, Truncate) else 0
            llama_cpp.llama_memory_seq_rm(self._memory, op.slot, length, -1)

    def prepare(self, request_id: int, params: SamplingParams, answer_ids: tuple[int, ...] = ()) -> Preparation:
        """Compile the grammar of a sequence in a thread, before ``open_sampler``."""
        return self._constraints.prepare(request_id, params, answer_ids)

    def open_sampler(
        self, request_id: int, params: SamplingParams, prompt_ids: tuple[int, ...], answered: int = 0
    ) -> None:
        """Make the sampler of a sequence that was admitted; the last ``answered`` of its prompt are of its answer."""
        window = self.info.context_length
        constraint = self._constraints.take(request_id) if params.grammar is not None else None
        self._samplers[request_id] = Sampler(
            params, prompt_ids, self._logits.vocab_size, self.stop_ids, window, answered=answered, constraint=constraint
        )

    def close_sampler(self, request_id: int) -> None:
        """Free it, if there is one."""
        sampler = self._samplers.pop(request_id, None)
        if sampler is not None:
            sampler.close()
        else:
            self._constraints.drop(request_id)

    def decode(self, items: tuple[BatchItem, ...]) -> None:
        """Compute the tokens of ``items`` in one batch. Raises DecodeError."""
        self._starts = self._batch.fill(items)
        if self.adapters:
            self._adapters.use_adapter(self._context, items[0].sequence.salt)
        first = items[0].sequence
        pads = self._batch.native.n_tokens == 1 and first.repeatable and not first.disturbed
        if pads:
            self._batch.pad(self.slots)
        code = self._threads.decode(self._batch.native)
        if pads:
            llama_cpp.llama_memory_seq_rm(self._memory, self.slots, 0, -1)
        self._logits.decoded(self._batch.wanted)
        if code == 0:
            return
        for item in items:  # parts of a batch that failed may have been computed
            if not llama_cpp.llama_memory_seq_rm(self._memory, item.slot, item.start, -1):
                raise StateLost(f"llama_decode answered {code}, and a running state cannot be taken back")
        raise DecodeError(f"llama_decode answered {code}: {_DECODE_ERRORS.get(code, 'a fatal error')}", fatal=code < -1)

    def sample(self, item: BatchItem, draft: int = 0) -> SampledToken:
        """Sample the token after the tokens and ``draft`` drafts of an item of the last batch that ``samples``."""
        request_id = item.sequence.request_id
        index = self._starts[request_id] + len(item.tokens) - 1 + draft
        return self._samplers[request_id].sample(self._logits, index)

    def score_prompt(self, item: BatchItem) -> tuple[SampledToken, ...]:
        """Score the next prompt tokens of an item of the last batch that ``scores``."""
        start, top = self._starts[item.sequence.request_id], item.sequence.params.prompt_logprobs or 0
        return tuple(
            score(self._logits.row(index), token, top) for index, token in enumerate(item.following_prompt_ids, start)
        )

    def kept(self) -> CacheSnapshot:
        """Return the state for the integrity check."""
        lengths = {slot: int(llama_cpp.llama_memory_seq_pos_max(self._memory, slot)) + 1 for slot in range(self.slots)}
        return CacheSnapshot(
            tokens={slot: length for slot, length in lengths.items() if length},
            copies=frozenset(self._offloaded),
            samplers=frozenset(self._samplers),
            grammars=self._constraints.request_ids,
        )

    def close(self) -> None:
        """Free everything."""
        for request_id in list(self._samplers):
            self.close_sampler(request_id)
        self._constraints.close()
        llama_cpp.llama_free(self._context)
        self._adapters.close()
        llama_cpp.llama_model_free(self._model)


def _context_params(
    config: EngineConfig, placement: Placement, slots: int, cells: int
) -> llama_cpp.llama_context_params:
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = max(cells, slots)  # with fewer, llama.cpp aborts where it keeps no keys and values
    params.n_batch = params.n_ubatch = max(config.batch_size, slots)  # with fewer, llama.cpp aborts
    params.n_seq_max = slots
    params.kv_unified = True  # or llama.cpp asserts when a part of a sequence is shared
    params.n_threads = placement.threads
    params.n_threads_batch = placement.threads_batch
    params.no_perf = True
    if config.flash_attn is not FlashAttention.AUTO:
        params.flash_attn_type = _FLASH_ATTENTION[config.flash_attn]
    if config.kv_type.is_quantised:
        params.type_k = params.type_v = _KV_TYPES[config.kv_type]
        params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED  # or llama.cpp rejects such values
    return params


def _cache_traits(model: llama_cpp.llama_model_p, facts: ModelFacts) -> CacheTraits:
    """Return the operations that llama.cpp's memory of ``model`` allows.

    With a sliding window, cells behind the window of the longest sequence that has them are used for others, so the
    middle of a slot is not all there; the last tokens are.
    """
    if llama_cpp.llama_model_is_recurrent(model) or llama_cpp.llama_model_is_hybrid(model):
        return CacheTraits(cuts=False, undoes=False, copies=cached_slots(facts.state_bytes))
    return CacheTraits(cuts=not llama_cpp.llama_model_n_swa(model))


def _open(
    model: llama_cpp.llama_model_p, params: llama_cpp.llama_context_params, cells: int, context_length: int
) -> llama_cpp.llama_context_p:
    with zeros_released(huge_pages=context_length >= LONG_CONTEXT):
        context = llama_cpp.llama_init_from_model(model, params)
    if not context:
        raise ModelLoadError(f"no memory for a cache of {cells} tokens; lower --context, --parallel or --cache-tokens")
    return context


def _layout(params: llama_cpp.llama_context_params) -> list[str]:
    """Return the parameters that the content of the KV cache depends on, apart from the devices."""
    storage = ("type_k", "type_v", "flash_attn_type", "offload_kqv", "swa_full", "kv_unified")
    positions = ("rope_scaling_type", "rope_freq_base", "rope_freq_scale", "yarn_orig_ctx")
    return [f"{name}={getattr(params, name)}" for name in storage + positions]


def _with_build(
    fingerprints: Mapping[str, str], build: BuildFacts, placement: Placement, params: llama_cpp.llama_context_params
) -> dict[str, str]:
    """Return the fingerprints of files with all else that the content of the KV cache depends on."""
    computed_by = (build.version, build.system_info, str(placement.gpu_layers), *_layout(params))
    return {name: " ".join([fingerprint, *computed_by]) for name, fingerprint in fingerprints.items()}
