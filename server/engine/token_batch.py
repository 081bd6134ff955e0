"""A batch of tokens as llama.cpp takes it."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from itertools import chain

import llama_cpp
import numpy as np

from server.engine.batch import BatchItem


class TokenBatch:
    """A ``llama_batch`` over numpy arrays that are filled anew each step; one sequence per token."""

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

    def fill(self, items: tuple[BatchItem, ...]) -> dict[int, int]:
        """Enter ``items``; return the index of each one's first token, by request id."""
        sizes = [len(item.tokens) + len(item.drafts) for item in items]
        total = sum(sizes)
        self.native.n_tokens = total
        self._tokens[:total] = list(chain.from_iterable(item.ids for item in items))
        self._slots[:total] = np.repeat([item.slot for item in items], sizes)
        self._wanted[:total] = 0
        starts: dict[int, int] = {}
        at = 0
        for item, size in zip(items, sizes, strict=True):
            self._positions[at : at + size] = np.arange(item.start, item.start + size)
            starts[item.sequence.request_id] = at
            if item.scores:
                self._wanted[at : at + size] = 1
            elif item.samples:
                self._wanted[at + len(item.tokens) - 1 : at + size] = 1
            at += size
        return starts

    def fill_whole(self, inputs: Sequence[tuple[int, ...]]) -> None:
        """Enter each of ``inputs`` as a sequence of its own, from its first token on, all of whose outputs count."""
        sizes = [len(ids) for ids in inputs]
        total = sum(sizes)
        self.native.n_tokens = total
        self._tokens[:total] = list(chain.from_iterable(inputs))
        self._positions[:total] = np.concatenate([np.arange(size) for size in sizes])
        self._slots[:total] = np.repeat(np.arange(len(sizes)), sizes)
        self._wanted[:total] = 1
