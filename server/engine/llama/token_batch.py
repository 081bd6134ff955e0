"""The tokens of a step as llama.cpp takes them, and the logits that it gives for them."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence as Ordered
from itertools import chain

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from glmserve.engine.scheduler.batch import BatchItem


class TokenBatch:
    """A ``llama_batch`` over numpy arrays that are refilled each step; one sequence per token."""

    def __init__(self, capacity: int) -> None:
        """Make room for ``capacity`` tokens."""
        self.capacity = capacity
        self._tokens = np.zeros(capacity, np.int32)
        self._positions = np.zeros(capacity, np.int32)
        self._counts = np.ones(capacity, np.int32)
        self._slots = np.zeros(capacity, np.int32)
        self._slot_pointers = self._slots.ctypes.data + 4 * np.arange(capacity, dtype=np.uintp)
        self._wanted = np.zeros(capacity, np.int8)
        self.native = llama_cpp.llama_batch()
        for name, array in (
            ("token", self._tokens),
            ("pos", self._positions),
            ("n_seq_id", self._counts),
            ("seq_id", self._slot_pointers),
            ("logits", self._wanted),
        ):
            kind = dict(llama_cpp.llama_batch._fields_)[name]
            setattr(self.native, name, ctypes.cast(array.ctypes.data, kind))

    @property
    def wanted(self) -> NDArray[np.int8]:
        """A view: 1 for each token whose output counts."""
        return self._wanted[: self.native.n_tokens]

    def fill(self, items: tuple[BatchItem, ...]) -> dict[int, int]:
        """Enter ``items``; return the index of each one's first token, by request id."""
        # Lists, each of which becomes an array at once: most steps have few tokens, for which numpy takes longer.
        tokens: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        wanted: list[int] = []
        starts: dict[int, int] = {}
        for item in items:
            ids = item.ids
            size = len(ids)
            starts[item.sequence.request_id] = len(tokens)
            tokens += ids
            positions += range(item.start, item.start + size)
            slots += [item.slot] * size
            outputs = size if item.scores else len(item.drafts) + 1 if item.samples else 0
            wanted += [0] * (size - outputs) + [1] * outputs
        self.native.n_tokens = total = len(tokens)
        self._tokens[:total] = tokens
        self._positions[:total] = positions
        self._slots[:total] = slots
        self._wanted[:total] = wanted
        return starts

    def pad(self, slot: int) -> None:
        """Add a row of no use in the empty ``slot``, with an output, so that the step is as with two sequences."""
        end = self.native.n_tokens
        self._tokens[end] = self._tokens[0]
        self._positions[end] = 0
        self._wanted[end] = 1
        self._slots[end] = slot
        self.native.n_tokens = end + 1

    def fill_whole(self, inputs: Ordered[tuple[int, ...]], start: int = 0) -> None:
        """Enter each of ``inputs`` as a sequence of its own, from position ``start`` on, all of whose outputs count."""
        sizes = [len(ids) for ids in inputs]
        total = sum(sizes)
        self.native.n_tokens = total
        self._tokens[:total] = list(chain.from_iterable(inputs))
        self._positions[:total] = np.concatenate([np.arange(start, start + size) for size in sizes])
        self._slots[:total] = np.repeat(np.arange(len(sizes)), sizes)
        self._wanted[:total] = 1


class BatchLogits:
    """The logits of the last batch: one row for each token whose output the batch wanted."""

    def __init__(self, context: llama_cpp.llama_context_p, vocab_size: int) -> None:
        """Belong to a context; there is no batch yet."""
        self.context = context
        self.vocab_size = vocab_size
        self._wanted: NDArray[np.int8] = np.empty(0, np.int8)
        self._best: dict[int, int] = {}

    def decoded(self, wanted: NDArray[np.int8]) -> None:
        """Note that a batch was decoded; ``wanted`` marks its tokens that have a row, and must not change meanwhile."""
        self._wanted = wanted
        self._best = {}

    def row(self, index: int) -> NDArray[np.float32]:
        """Return the logits after the batch's token at ``index``: a view, good until the next decode."""
        return logits_at(self.context, index, self.vocab_size)

    def most_likely(self, index: int) -> int:
        """Return the token with the largest logit in that row.

        All rows are searched together: a call of llama.cpp and a numpy array for each cost 4 µs of 18 that a token of
        64 streams costs in Python. A chain of llama.cpp would copy the vocabulary: 0.4 ms for ChatGLM2's.
        """
        if not self._best:
            rows = self._wanted.nonzero()[0]
            logits = _floats(llama_cpp.llama_get_logits(self.context), len(rows) * self.vocab_size)
            best = logits.reshape(len(rows), self.vocab_size).argmax(axis=1)
            self._best = dict(zip(rows.tolist(), best.tolist(), strict=True))
        return self._best[index]


def logits_at(context: llama_cpp.llama_context_p, index: int, vocab_size: int) -> NDArray[np.float32]:
    """Return the logits after the batch's token at ``index``: a view, good until the next decode."""
    return _floats(llama_cpp.llama_get_logits_ith(context, index), vocab_size)


def _floats(pointer: ctypes._Pointer[ctypes.c_float], count: int) -> NDArray[np.float32]:
    # Not ``np.ctypeslib.as_array``, which takes three times as long and is in every step.
    address = ctypes.addressof(pointer.contents)
    return np.frombuffer(memoryview((ctypes.c_float * count).from_address(address)), np.float32)
