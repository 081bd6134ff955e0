"""A batch of tokens as llama.cpp takes it."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from itertools import chain

import llama_cpp
import numpy as np

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

    def fill_whole(self, inputs: Sequence[tuple[int, ...]], start: int = 0) -> None:
        """Enter each of ``inputs`` as a sequence of its own, from position ``start`` on, all of whose outputs count."""
        sizes = [len(ids) for ids in inputs]
        total = sum(sizes)
        self.native.n_tokens = total
        self._tokens[:total] = list(chain.from_iterable(inputs))
        self._positions[:total] = np.concatenate([np.arange(start, start + size) for size in sizes])
        self._slots[:total] = np.repeat(np.arange(len(sizes)), sizes)
        self._wanted[:total] = 1
