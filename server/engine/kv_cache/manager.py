"""Cells and slots of the KV cache: who has them, which prefixes stay in them, which are offloaded or dropped. Pure.

Each decision becomes a cache operation; the model runner carries them out before the next batch (``take_ops``).
Running sequences reserve their cells: methods that need free ones are told how many are ``reserved``.
"""

from collections.abc import Sequence as Ordered

from glmserve.engine.kv_cache.ops import (
    EACH_TOKEN,
    IDLE_CELLS,
    MIN_OWN,
    UNKNOWN,
    CacheOp,
    CacheTraits,
    CopyPrefix,
    FreeSlot,
    Load,
    Offload,
    OffloadedPrefixes,
    Truncate,
    is_worth_offloading,
)
from glmserve.engine.kv_cache.prefix_cache import PrefixCache, PrefixMatch

MIN_SHARED = 32
"""Tokens by which an offloaded prefix, or one that is being computed, must be longer than a cached one."""

LONG_PROMPT = 2048
"""Tokens of a prompt to compute from which no idle prefix stays in the cells: a token beside 1,024 idle cells takes up
to 0.7 ms longer, and copying these cells out and back 8 ms in all."""

MIN_CHECKPOINT = 64
"""Tokens of a prompt that a checkpoint must save: it costs a step more."""

AFTER_CHECKPOINT = 8
"""Tokens of a prompt after its last checkpoint: equal prompts start there, and others that ask for another kind of
answer, as the last tokens of a chat template do."""


def checkpoints(prompt_tokens: int, common_tokens: int, computed: int) -> tuple[int, ...]:
    """Return the lengths at which the state of a prompt is kept, where a slot cannot be cut: ``CacheTraits.cuts``.

    Args:
        prompt_tokens: of the prompt.
        common_tokens: its beginning that other prompts are known to have too: the system message and the tools.
        computed: tokens that come from the cache.
    """
    places: list[int] = []
    for place in (common_tokens, prompt_tokens - AFTER_CHECKPOINT):
        if place - (places[-1] if places else computed) >= MIN_CHECKPOINT and place < prompt_tokens:
            places.append(place)
    return tuple(places)


class KvCacheManager:
    """Owns the index of the cells (``PrefixCache``), the free slots and the index of offloaded prefixes."""

    def __init__(
        self,
        cells: int,
        slots: int,
        idle_cells: int = IDLE_CELLS,
        traits: CacheTraits = EACH_TOKEN,
    ) -> None:
        """Start with every cell and slot free.

        Args:
            cells: of the llama.cpp context.
            slots: ``llama_seq_id`` lanes.
            idle_cells: cells that prefixes without a running sequence may keep.
            traits: what the memory of the model allows.
        """
        self._cells = cells
        self._slots = slots
        self._idle_cells = idle_cells
        self._traits = traits
        self._index = PrefixCache(cuts=traits.cuts)
        self._offloaded = OffloadedPrefixes(traits)
        self._free_slots = list(range(slots - 1, -1, -1))
        self._ops: list[CacheOp] = []
        self.has_holes = False
        """Whether cells were freed since ``evict_idle``: the next computed cells may lie ahead of its beginning."""
        self.pinned_slots = 0
        """Slots of pinned prefixes, including prefixes that are still to be computed."""
        self.tokens_pinned = 0
        """Tokens of these prefixes."""

    @property
    def cuts(self) -> bool:
        """Whether a sequence may start from any length of a cached prefix, not from its checkpoints alone."""
        return self._traits.cuts

    @property
    def slots_to_run(self) -> int:
        """Slots that sequences can run in: pinned prefixes take the others, and llama.cpp has no more than 256."""
        return self._slots - self.pinned_slots

    @property
    def cells_used(self) -> int:
        """Cells that hold a running sequence or a cached prefix."""
        return self._index.cells_used

    @property
    def cells_pinned(self) -> int:
        """Cells of running sequences and pinned prefixes."""
        return self._index.cells_pinned

    @property
    def tokens_offloaded(self) -> int:
        """Tokens of cached prefixes outside the cells."""
        return self._offloaded.num_tokens

    @property
    def offloaded_keys(self) -> frozenset[int]:
        """Keys of all offloaded copies."""
        return self._offloaded.keys

    @property
    def lengths(self) -> dict[int, int]:
        """Tokens of each non-empty slot."""
        slots = (slot for slot in range(self._slots) if slot in self._index)
        return {slot: length for slot in slots if (length := self._index.length(slot))}

    def take_ops(self) -> tuple[CacheOp, ...]:
        """Return the due cache operations, and clear them."""
        ops, self._ops = tuple(self._ops), []
        return ops

    def cached_length(self, prompt: Ordered[int], limit: int) -> int:
        """Return the length of the longest cached or offloaded prefix of ``prompt``, up to ``limit`` tokens."""
        match, offloaded = self._index.match(prompt, limit), self._offloaded.match(prompt, limit)
        return max(match.length if match else 0, offloaded.shared if offloaded else 0)

    def match(self, prompt: Ordered[int], limit: int, to_come: int, reserved: int, running: int) -> PrefixMatch | None:
        """Find the longest cached prefix of ``prompt``; loads an offloaded one if it is longer and fits.

        Args:
            prompt: keys of the prompt's tokens.
            limit: tokens of it that may come from the cache.
            to_come: cells that the sequence may need in all.
            reserved: cells that running sequences have reserved.
            running: number of running sequences.
        """
        match = self._index.match(prompt, limit)
        offloaded = self._offloaded.match(prompt, limit)
        if offloaded is None or offloaded.shared < (match.length if match else 0) + MIN_SHARED:
            return match
        needed = self.cells_pinned + reserved + max(offloaded.length, to_come)
        if needed > self._cells or self.slots_to_run - running < 2:  # its own and the sequence's
            return match
        slot = self._fill(self._offloaded.take(offloaded.key))
        self._index.unpin(slot)
        self._ops.append(Load(slot, offloaded.key))
        return self._index.match(prompt, limit)

    def adopt(self, tokens: tuple[int, ...]) -> int:
        """Enter a prefix that comes from the disk; return the key for the copy of its state."""
        key, dropped = self._offloaded.add(tokens)
        self._ops += dropped
        return key

    def copy_key(self, tokens: tuple[int, ...]) -> int | None:
        """Return the key of the offloaded copy of just these tokens, if there is one."""
        return self._offloaded.find(tokens)

    def is_idle(self, slot: int, tokens: Ordered[int]) -> bool:
        """Whether ``slot`` holds just these tokens, and no sequence runs in it."""
        return self._index.is_idle(slot) and self._index.tokens(slot) == list(tokens)

    def fits(self, match: PrefixMatch | None, to_come: int, reserved: int) -> bool:
        """Return whether a sequence that starts from ``match`` and needs ``to_come`` cells finds room."""
        shared, unpinned = (0, 0) if match is None else (match.length, match.unpinned)
        return self.cells_pinned + reserved + unpinned + to_come - shared <= self._cells

    def allocate(self, prompt: Ordered[int], limit: int, match: PrefixMatch | None) -> tuple[int, int]:
        """Return a slot for a sequence that starts from ``match``, and the number of tokens shared with it."""
        if match is not None:
            self._index.touch(match.slot)  # or it might be the one that is evicted for its own copy
        slot = self._free_slot()
        if match is not None and match.slot not in self._index:
            match = self._index.match(prompt, limit)
        self._index.open(slot, match)
        if match is None:
            return slot, 0
        self._ops.append(CopyPrefix(match.slot, slot, match.length))
        return slot, match.length

    def extend(self, slot: int, tokens: Ordered[int], *, end: int, drafted: bool) -> None:
        """Enter computed ``tokens`` of ``slot``, which now ends at ``end``; ``drafted`` cells beyond are removed."""
        self._index.extend(slot, tokens)
        if drafted:
            self._ops.append(Truncate(slot, end))

    def checkpoint(self, slot: int) -> None:
        """Keep the state of a running ``slot`` as it is now, as a cached prefix, if a slot is to be had."""
        if not self._free_slots and self._index.evictable() is None:
            return
        target, length = self._free_slot(), self._index.length(slot)
        self._index.open(target, PrefixMatch(slot, length, 0))
        self._index.unpin(target)
        self._ops.append(CopyPrefix(slot, target, length))

    def keep(self, slot: int, *, spare: bool = False) -> None:
        """Keep the tokens of ``slot`` as a prefix, whose sequence has ended; ``spare`` ones are evicted first."""
        self._index.unpin(slot)
        if spare:
            self._index.make_spare(slot)
        self.drop_redundant(slot)

    def drop_redundant(self, slot: int) -> None:
        """Free idle slots that ``slot`` covers."""
        for other in self._index.redundant(slot):
            self.release(other)

    def release(self, slot: int) -> None:
        """Free ``slot`` and the cells that no other slot shares."""
        used = self.cells_used
        self._index.release(slot)
        self.has_holes |= self.cells_used < used
        self._free_slots.append(slot)
        self._ops.append(FreeSlot(slot))

    def pin(self, tokens: Ordered[int]) -> int:
        """Return a slot that holds ``tokens`` for ever; apply ``take_ops``, then fill its cells. See ``can_pin``."""
        self.promise_pin(len(tokens))
        return self._fill(tokens)

    def unpin(self, slot: int) -> None:
        """Undo ``pin``."""
        self.promise_pin(-self._index.length(slot))
        self.release(slot)

    def promise_pin(self, tokens: int) -> None:
        """Count a prefix of ``tokens`` that will be computed and pinned; a negative number withdraws it."""
        self.pinned_slots += 1 if tokens > 0 else -1
        self.tokens_pinned += tokens

    def can_pin(self, tokens: int, most_slots: int, beside: int) -> bool:
        """Return whether ``tokens`` fit beside ``beside`` cells, with no more than ``most_slots`` pinned slots."""
        return self.pinned_slots < most_slots and beside + tokens <= self._cells

    def trim_idle(self, longest: int = 0) -> None:
        """Evict idle prefixes until few enough cells are theirs: every computed token looks at each used cell.

        ``longest``: prompt tokens that a running sequence still has to compute; beside a long prompt none are kept.
        """
        kept = 0 if longest >= LONG_PROMPT and self._traits.cuts else self._idle_cells
        while self.cells_used - self.cells_pinned > kept:
            self._evict()

    def evict_idle(self) -> None:
        """Evict all idle prefixes, while no sequence runs: new ones get their cells in order, as on a fresh server."""
        while self._index.evictable() is not None:
            self._evict()
        self.has_holes = False

    def make_room(self, tokens: int) -> None:
        """Evict idle prefixes until ``tokens`` cells are free, and drop offloaded ones beyond the total."""
        self._evict_for(tokens)
        self._ops += self._offloaded.shrink(self._cells - self.cells_used - tokens)

    def tokens(self, slot: int) -> list[int]:
        """Return the tokens of ``slot``, in order."""
        return self._index.tokens(slot)

    def check_integrity(self, reserved: int) -> None:
        """Recount. Raises AssertionError where an index is wrong."""
        self._index.check_integrity()
        self._offloaded.check_integrity()
        taken = [slot for slot in range(self._slots) if slot in self._index]
        assert sorted(taken + self._free_slots) == list(range(self._slots)), "a slot is lost or used twice"
        assert self.cells_used <= self._cells, "more cells than there are"
        assert self.cells_pinned + reserved <= self._cells, "more cells reserved than there are"

    def _fill(self, tokens: Ordered[int]) -> int:
        self._evict_for(len(tokens))
        slot = self._free_slot()
        self._index.open(slot)
        self._index.extend(slot, tokens)
        return slot

    def _free_slot(self) -> int:
        if not self._free_slots:
            self._evict()
        return self._free_slots.pop()

    def _evict_for(self, tokens: int) -> None:
        while self.cells_used + tokens > self._cells:
            self._evict()

    def _evict(self) -> None:
        slot = self._index.evictable()
        assert slot is not None, "reservation promised room that is not there"
        length, tokens = self._index.length(slot), self._index.tokens(slot)
        worth = is_worth_offloading(self._index.own(slot), length) if self._traits.cuts else length >= MIN_OWN
        worth = worth and UNKNOWN not in tokens[-1:]
        if worth and self._traits.copies and self.cells_pinned + length <= self._cells:
            key, dropped = self._offloaded.add(tokens)
            self._ops += [*dropped, Offload(slot, key)]
        self.release(slot)
