"""Which computed tokens sit in which cells, who shares them, and which of them a new prompt may start from.

A radix tree over token ids whose edges are *segments*: runs of cells that one sequence computed. A slot (a
``llama_seq_id``) is a path from the root; slots that were forked from one another share segments, as
``llama_memory_seq_cp`` shares cells in llama.cpp's unified cache. The tree is the exact book of the cells:
two sequences that computed equal tokens apart from one another have a segment each.

A slot is *pinned* while its sequence runs, or for ever where it holds a prefix that must stay. Segments that no
pinned slot passes through may be evicted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


@dataclass(eq=False, slots=True)
class _Segment:
    tokens: list[int]
    parent: _Segment | None
    slots: set[int] = field(default_factory=set)
    pins: int = 0
    children: dict[int, list[_Segment]] = field(default_factory=dict)
    """By first token; several where equal tokens were computed apart."""


@dataclass(frozen=True, slots=True)
class PrefixMatch:
    """The longest cached start of a prompt: the first ``length`` tokens of ``slot``."""

    slot: int
    length: int
    unpinned: int
    """How many of these tokens lie in cells that no running sequence holds yet."""


class PrefixCache:
    """The index of cells. Names no sequence and evicts nothing by itself."""

    def __init__(self, *, cuts: bool = True) -> None:
        """``cuts``: whether a prompt may start from a part of a slot's tokens, or only from all of them."""
        self._cuts = cuts
        self._root = _Segment([], None)
        self._tails: dict[int, _Segment] = {}
        self._lengths: dict[int, int] = {}
        self._pinned: set[int] = set()
        self._last_used: dict[int, int] = {}
        self._spare: set[int] = set()
        """Slots that are evicted before all others."""
        self._tick = 0
        self.cells_used = 0
        """Cells that hold anything."""
        self.cells_pinned = 0
        """Cells that a pinned slot passes through."""

    def __contains__(self, slot: int) -> bool:
        return slot in self._tails

    def length(self, slot: int) -> int:
        """Tokens that ``slot`` holds."""
        return self._lengths[slot]

    def is_idle(self, slot: int) -> bool:
        """Whether ``slot`` is kept without a running sequence, and may be evicted."""
        return slot in self._tails and slot not in self._pinned

    def own(self, slot: int) -> int:
        """Cells of ``slot`` that no other slot shares."""
        return sum(len(segment.tokens) for segment in self._path(self._tails[slot]) if len(segment.slots) == 1)

    def tokens(self, slot: int) -> list[int]:
        """The tokens that ``slot`` holds, in order."""
        path = [segment.tokens for segment in self._path(self._tails[slot])]
        return [token for tokens in reversed(path) for token in tokens]

    def match(self, prompt: Sequence[int], limit: int, ignoring: int = -1) -> PrefixMatch | None:
        """Find the slot that shares the longest start with ``prompt``, up to ``limit`` tokens.

        What the slot ``ignoring`` holds alone does not count.
        """
        best: PrefixMatch | None = None
        todo = [(self._root, 0, 0)]
        while todo:
            segment, depth, unpinned = todo.pop()
            if segment.slots == {ignoring}:
                continue
            shared = _common(segment.tokens, prompt, depth, limit)
            depth, unpinned = depth + shared, unpinned + (0 if segment.pins else shared)
            sources = self._sources(segment, shared, ignoring)
            if shared and sources and (best is None or depth > best.length):
                best = PrefixMatch(max(sources, key=self._last_used.__getitem__), depth, unpinned)
            if shared == len(segment.tokens) and depth < limit:
                todo.extend((child, depth, unpinned) for child in segment.children.get(prompt[depth], ()))
        return best

    def open(self, slot: int, match: PrefixMatch | None = None) -> None:
        """Give a free ``slot`` to a running sequence, starting from ``match`` or empty. Pins the slot."""
        tail = self._root if match is None else self._cut(match.slot, match.length)
        self._tails[slot] = tail
        self._lengths[slot] = 0 if match is None else match.length
        self._pinned.add(slot)
        if match is not None:
            self.touch(match.slot)
        self.touch(slot)
        for segment in self._path(tail):
            segment.slots.add(slot)
            self._pin(segment)

    def extend(self, slot: int, tokens: Sequence[int]) -> None:
        """Note that the sequence in a pinned ``slot`` has computed ``tokens`` more."""
        tail = self._tails[slot]
        if tail is self._root or len(tail.slots) > 1 or tail.children:
            tail = self._grow(tail, slot, tokens[0])
        tail.tokens.extend(tokens)
        self._lengths[slot] += len(tokens)
        self.cells_used += len(tokens)
        self.cells_pinned += len(tokens)

    def unpin(self, slot: int) -> None:
        """The sequence in ``slot`` has ended; its cells stay until they are evicted."""
        self._pinned.discard(slot)
        self.touch(slot)
        for segment in self._path(self._tails[slot]):
            self._unpin(segment)

    def release(self, slot: int) -> None:
        """Remove ``slot``; cells that no other slot shares are free."""
        if slot in self._pinned:
            self.unpin(slot)
        for segment in self._path(self._tails.pop(slot)):
            segment.slots.discard(slot)
            if not segment.slots:
                self._drop(segment)
        del self._lengths[slot], self._last_used[slot]
        self._spare.discard(slot)

    def touch(self, slot: int) -> None:
        """Mark ``slot`` as just used."""
        self._tick += 1
        self._last_used[slot] = self._tick

    def evictable(self) -> int | None:
        """The slot without a running sequence that was used longest ago; of the spare ones, if there are any."""
        idle = self._tails.keys() - self._pinned
        return min(idle & self._spare or idle, key=self._last_used.__getitem__, default=None)

    def make_spare(self, slot: int) -> None:
        """Evict ``slot`` before others, unless it holds all that one of them does, which is then dropped for it."""
        if all(other in self._spare for other in self.redundant(slot) if other != slot):
            self._spare.add(slot)

    def redundant(self, slot: int) -> list[int]:
        """Idle slots that are redundant: inside ``slot``'s path, and ``slot`` itself if idle and inside another."""
        tail = self._tails[slot]
        path = set(map(id, self._path(tail) if self._cuts else (tail,)))
        inside = [
            other
            for other, end in self._tails.items()
            if other != slot and other not in self._pinned and (id(end) in path or end is self._root)
        ]
        return inside + ([slot] if slot not in self._pinned and self._is_covered(slot) else [])

    def check_integrity(self) -> None:
        """Recount everything from the tree. Raises AssertionError where the index is wrong."""
        used = pinned = 0
        for segment in self._walk():
            assert segment.slots, "a segment without a slot"
            assert segment.pins == len(segment.slots & self._pinned), "pins do not add up"
            assert segment.tokens, "an empty segment"
            used += len(segment.tokens)
            pinned += len(segment.tokens) if segment.pins else 0
        assert (used, pinned) == (self.cells_used, self.cells_pinned), "cells do not add up"
        for slot, tail in self._tails.items():
            path = list(self._path(tail))
            assert sum(len(s.tokens) for s in path) == self._lengths[slot], "a length is wrong"
            assert all(slot in s.slots for s in path), "a path without its slot"

    def _sources(self, segment: _Segment, shared: int, ignoring: int) -> set[int]:
        """The slots that a prompt may start from which has the first ``shared`` tokens of ``segment``."""
        if self._cuts:
            return segment.slots
        if shared < len(segment.tokens):
            return set()
        return {slot for slot in segment.slots if self._tails[slot] is segment and slot != ignoring}

    def _is_covered(self, slot: int) -> bool:
        length = self._lengths[slot]
        match = self.match(self.tokens(slot), length, ignoring=slot)
        return length == 0 or (match is not None and match.length == length)

    def _path(self, tail: _Segment) -> Iterator[_Segment]:
        """Segments from ``tail`` up, without the root."""
        segment: _Segment | None = tail
        while segment is not None and segment is not self._root:
            parent = segment.parent
            yield segment
            segment = parent

    def _walk(self) -> Iterator[_Segment]:
        todo = [child for twins in self._root.children.values() for child in twins]
        while todo:
            segment = todo.pop()
            yield segment
            todo.extend(child for twins in segment.children.values() for child in twins)

    def _cut(self, slot: int, length: int) -> _Segment:
        """The segment of ``slot``'s path that ends after ``length`` tokens, splitting one if need be."""
        end = self._lengths[slot]
        for segment in self._path(self._tails[slot]):
            start = end - len(segment.tokens)
            if start < length <= end:
                return segment if length == end else self._split(segment, length - start)
            end = start
        return self._root

    def _split(self, lower: _Segment, at: int) -> _Segment:
        """Cut ``lower`` in two; the object stays the lower half, so tails stay right."""
        parent = lower.parent
        assert parent is not None, "the root is never split"
        upper = _Segment(lower.tokens[:at], parent, set(lower.slots), lower.pins)
        twins = parent.children[lower.tokens[0]]
        twins[twins.index(lower)] = upper
        lower.tokens = lower.tokens[at:]
        lower.parent = upper
        upper.children[lower.tokens[0]] = [lower]
        return upper

    def _grow(self, tail: _Segment, slot: int, first: int) -> _Segment:
        child = _Segment([], tail, {slot}, 1)
        tail.children.setdefault(first, []).append(child)
        self._tails[slot] = child
        return child

    def _drop(self, segment: _Segment) -> None:
        parent = segment.parent
        assert parent is not None, "the root is never dropped"
        twins = parent.children[segment.tokens[0]]
        twins.remove(segment)
        if not twins:
            del parent.children[segment.tokens[0]]
        self.cells_used -= len(segment.tokens)

    def _pin(self, segment: _Segment) -> None:
        segment.pins += 1
        if segment.pins == 1:
            self.cells_pinned += len(segment.tokens)

    def _unpin(self, segment: _Segment) -> None:
        segment.pins -= 1
        if segment.pins == 0:
            self.cells_pinned -= len(segment.tokens)


def _common(tokens: list[int], prompt: Sequence[int], start: int, limit: int) -> int:
    """How many of ``tokens`` equal ``prompt`` from ``start`` on, not going past ``limit`` in the prompt."""
    return common_prefix(tokens, prompt[start : min(limit, start + len(tokens))])


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common start. Halves the range, so that equal slices compare at C speed."""
    low, high = 0, min(len(a), len(b))
    if type(a) is not type(b):
        a, b = list(a), list(b)
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
