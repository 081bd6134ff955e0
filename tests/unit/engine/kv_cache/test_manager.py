"""The bookkeeping of cells: what fits beside the running sequences, and when an offloaded prefix is loaded."""

import pytest

from glmserve.engine.kv_cache.manager import (
    AFTER_CHECKPOINT,
    MIN_CHECKPOINT,
    MIN_SHARED,
    KvCacheManager,
    checkpoints,
)
from glmserve.engine.kv_cache.ops import (
    EACH_TOKEN,
    MIN_OWN,
    UNKNOWN,
    CacheTraits,
    CopyPrefix,
    Drop,
    Load,
    Offload,
    Truncate,
)

CELLS = 300
PREFIX = tuple(range(100))


@pytest.mark.parametrize(("reserved", "slots", "loads"), [(199, 6, True), (200, 6, False), (0, 3, True), (0, 2, False)])
def test_an_offloaded_prefix_is_loaded_where_it_and_its_sequence_find_cells_and_slots(
    reserved: int, slots: int, *, loads: bool
) -> None:
    cache = KvCacheManager(CELLS, slots, CELLS)
    key = cache.adopt(PREFIX)
    match = cache.match(PREFIX, len(PREFIX) - 1, to_come=101, reserved=reserved, running=1)
    assert (match is not None) == loads
    assert [op.key for op in cache.take_ops() if isinstance(op, Load)] == [key] * loads


def fill(cache: KvCacheManager, tokens: tuple[int, ...]) -> int:
    """Compute ``tokens`` in a slot of their own, where a sequence runs."""
    slot, _ = cache.allocate(tokens, 0, None)
    cache.extend(slot, tokens, end=len(tokens), drafted=False)
    return slot


@pytest.mark.parametrize("cached", [0, 20])
@pytest.mark.parametrize(("longer", "loads"), [(MIN_SHARED, True), (MIN_SHARED - 1, False)])
def test_an_offloaded_prefix_is_loaded_where_it_is_enough_longer_than_a_cached_one(
    cached: int, longer: int, *, loads: bool
) -> None:
    cache = KvCacheManager(CELLS, 6, CELLS)
    if cached:
        cache.keep(fill(cache, PREFIX[:cached]))
    cache.adopt((*PREFIX[: cached + longer], 7000))
    match = cache.match(PREFIX, len(PREFIX) - 1, to_come=101, reserved=0, running=0)
    assert (match.length if match else 0) == (cached + longer if loads else cached)


def start(cache: KvCacheManager, tokens: tuple[int, ...]) -> tuple[int, int]:
    """Start a sequence from the longest cached prefix of ``tokens``; return its slot and that length."""
    match = cache.match(tokens, len(tokens) - 1, to_come=len(tokens), reserved=0, running=1)
    return cache.allocate(tokens, len(tokens) - 1, match)


def test_the_slot_of_a_sequence_is_not_that_of_the_prefix_it_starts_from_while_there_is_another() -> None:
    cache = KvCacheManager(CELLS, 2, CELLS)
    prefix, other = fill(cache, PREFIX), fill(cache, tuple(range(500, 520)))
    cache.keep(prefix)
    cache.keep(other)
    assert start(cache, (*PREFIX, 7)) == (other, len(PREFIX))


def test_a_sequence_that_takes_the_slot_of_its_prefix_starts_from_what_another_one_holds() -> None:
    cache = KvCacheManager(CELLS, 2, CELLS)
    running = fill(cache, PREFIX[:50])
    slot, shared = start(cache, PREFIX)
    assert shared == 50
    cache.extend(slot, PREFIX[50:], end=100, drafted=False)
    cache.keep(slot)
    cache.take_ops()
    assert start(cache, (*PREFIX, 7)) == (slot, 50)
    assert cache.take_ops()[-1] == CopyPrefix(running, slot, 50)
    cache.check_integrity(0)


def test_a_checkpoint_is_an_idle_prefix_that_may_be_evicted() -> None:
    cache = KvCacheManager(CELLS, 3, CELLS, CacheTraits(cuts=False))
    slot = fill(cache, PREFIX)
    cache.checkpoint(slot)
    (target,) = set(cache.lengths) - {slot}
    assert cache.take_ops() == (CopyPrefix(slot, target, len(PREFIX)),)
    assert cache.is_idle(target, PREFIX)
    assert not cache.is_idle(slot, PREFIX)


def test_a_checkpoint_takes_no_slot_of_a_running_sequence() -> None:
    cache = KvCacheManager(CELLS, 2, CELLS, CacheTraits(cuts=False))
    slots = {fill(cache, PREFIX), fill(cache, PREFIX[:50])}
    cache.checkpoint(min(slots))
    assert set(cache.lengths) == slots
    assert cache.take_ops() == ()


def test_cells_of_rejected_drafts_are_removed() -> None:
    cache = KvCacheManager(CELLS, 6, CELLS)
    slot = fill(cache, PREFIX[:90])
    assert cache.take_ops() == ()
    cache.extend(slot, PREFIX[90:], end=len(PREFIX), drafted=True)
    assert cache.take_ops() == (Truncate(slot, len(PREFIX)),)


@pytest.mark.parametrize("spare", [False, True])
def test_what_was_used_longest_ago_is_evicted_and_spare_prefixes_before_it(*, spare: bool) -> None:
    cache = KvCacheManager(CELLS, 2, CELLS)
    older, newer = fill(cache, PREFIX), fill(cache, tuple(range(500, 520)))
    cache.keep(older)
    cache.keep(newer, spare=spare)
    assert fill(cache, (7, 8)) == (newer if spare else older)


def test_an_unpinned_prefix_gives_its_slot_and_tokens_back() -> None:
    cache = KvCacheManager(CELLS, 6, CELLS)
    slot = cache.pin(PREFIX)
    assert (cache.slots_to_run, cache.tokens_pinned, cache.cells_pinned) == (5, 100, 100)
    cache.unpin(slot)
    assert (cache.slots_to_run, cache.tokens_pinned, cache.cells_pinned) == (6, 0, 0)


def test_a_prefix_of_one_token_takes_a_slot_too() -> None:
    cache = KvCacheManager(CELLS, 6, CELLS)
    cache.pin((7,))
    assert (cache.slots_to_run, cache.tokens_pinned) == (5, 1)


def test_a_hole_is_left_by_a_slot_with_cells_of_its_own() -> None:
    cache = KvCacheManager(CELLS, 6, CELLS)
    first = fill(cache, PREFIX)
    second, shared = start(cache, (*PREFIX, 7))
    assert shared == len(PREFIX)
    cache.release(second)
    assert not cache.has_holes
    cache.release(first)
    assert cache.has_holes


def test_evicting_what_is_idle_leaves_the_running_and_no_hole() -> None:
    cache = KvCacheManager(CELLS, 6, CELLS)
    running = fill(cache, (7, 8))
    for number in range(3):
        cache.keep(fill(cache, PREFIX[number:]))
    cache.evict_idle()
    assert cache.lengths == {running: 2}
    assert not cache.has_holes


def test_offloaded_prefixes_give_way_to_the_tokens_of_a_step() -> None:
    cache = KvCacheManager(CELLS, 6, CELLS)
    key = cache.adopt(PREFIX)
    fill(cache, tuple(range(500, 650)))
    cache.make_room(CELLS - 150 - len(PREFIX))
    assert cache.take_ops() == ()
    cache.make_room(CELLS - 150 - len(PREFIX) + 1)
    assert cache.take_ops() == (Drop(key),)


def test_the_integrity_check_covers_slots_cells_and_offloaded_prefixes() -> None:
    cache = KvCacheManager(CELLS, 6, CELLS)
    slot = fill(cache, PREFIX)
    cache.check_integrity(CELLS - len(PREFIX))
    with pytest.raises(AssertionError, match="more cells reserved than there are"):
        cache.check_integrity(CELLS - len(PREFIX) + 1)
    cache._free_slots.append(slot)
    with pytest.raises(AssertionError, match="a slot is lost or used twice"):
        cache.check_integrity(0)
    cache._offloaded.num_tokens += 1
    with pytest.raises(AssertionError, match="offloaded tokens do not add up"):
        cache.check_integrity(0)
    cache._index.cells_used += 1
    with pytest.raises(AssertionError, match="cells do not add up"):
        cache.check_integrity(0)


@pytest.mark.parametrize(("idle", "kept"), [(CELLS - 100, True), (CELLS - 99, False)])
def test_a_prefix_to_pin_evicts_idle_ones_where_cells_are_short(idle: int, *, kept: bool) -> None:
    cache = KvCacheManager(CELLS, 6, CELLS)
    slot = fill(cache, tuple(range(1000, 1000 + idle)))
    cache.keep(slot)
    pinned = cache.pin(PREFIX)
    assert cache.lengths == {pinned: 100} | ({slot: idle} if kept else {})


def offloads(cache: KvCacheManager) -> bool:
    """Evict all idle prefixes; return whether one was copied."""
    cache.evict_idle()
    return any(isinstance(op, Offload) for op in cache.take_ops())


@pytest.mark.parametrize(
    ("tokens", "traits", "copied"),
    [
        (PREFIX[:MIN_OWN], EACH_TOKEN, True),
        (PREFIX[: MIN_OWN - 1], EACH_TOKEN, False),
        ((*PREFIX, UNKNOWN), EACH_TOKEN, False),
        (PREFIX, CacheTraits(copies=0), False),
        (PREFIX[:MIN_OWN], CacheTraits(cuts=False), True),
        (PREFIX[: MIN_OWN - 1], CacheTraits(cuts=False), False),
    ],
)
def test_an_evicted_prefix_is_copied_if_it_is_long_enough_and_known(
    tokens: tuple[int, ...], traits: CacheTraits, *, copied: bool
) -> None:
    cache = KvCacheManager(CELLS, 6, CELLS, traits)
    cache.keep(fill(cache, tokens))
    assert offloads(cache) == copied


@pytest.mark.parametrize(("cells", "copied"), [(390, True), (389, False)])
def test_a_prefix_that_would_not_fit_beside_the_running_is_not_copied(cells: int, *, copied: bool) -> None:
    cache = KvCacheManager(cells, 6, cells)
    fill(cache, (*PREFIX, *range(500, 650)))
    slot, shared = start(cache, (*PREFIX, 7))
    assert shared == len(PREFIX)
    cache.extend(slot, tuple(range(700, 740)), end=140, drafted=False)
    cache.keep(slot)
    assert offloads(cache) == copied


def test_a_slot_is_idle_with_its_tokens_once_its_sequence_has_ended() -> None:
    cache = KvCacheManager(CELLS, 6, CELLS)
    assert not cache.is_idle(0, ()), "it is free"
    slot = fill(cache, PREFIX)
    assert not cache.is_idle(slot, PREFIX)
    cache.keep(slot)
    assert cache.is_idle(slot, PREFIX)
    assert not cache.is_idle(slot, PREFIX[:-1])


def test_a_sequence_without_a_match_fits_up_to_the_last_cell() -> None:
    cache = KvCacheManager(CELLS, 6, CELLS)
    assert cache.fits(None, CELLS - 20, reserved=20)
    assert not cache.fits(None, CELLS - 19, reserved=20)


def test_the_longest_of_several_offloaded_prefixes_is_loaded() -> None:
    cache = KvCacheManager(CELLS, 6, CELLS)
    cache.adopt((*PREFIX[:80], 7, 7))
    longest = cache.adopt(PREFIX)
    cache.adopt((*PREFIX[:60], 8, 8))
    match = cache.match(PREFIX, len(PREFIX) - 1, to_come=101, reserved=0, running=0)
    assert match is not None
    assert match.length == len(PREFIX) - 1
    assert [op.key for op in cache.take_ops() if isinstance(op, Load)] == [longest]


def test_the_states_of_a_prompt_are_kept_where_enough_tokens_lie_between_them() -> None:
    end = 2 * MIN_CHECKPOINT + AFTER_CHECKPOINT
    assert checkpoints(end, MIN_CHECKPOINT, 0) == (MIN_CHECKPOINT, 2 * MIN_CHECKPOINT)
    assert checkpoints(end, MIN_CHECKPOINT - 1, 0) == (2 * MIN_CHECKPOINT,)
    assert checkpoints(end, MIN_CHECKPOINT + 1, 0) == (MIN_CHECKPOINT + 1,)
    assert checkpoints(end, MIN_CHECKPOINT, MIN_CHECKPOINT + 1) == ()


def test_an_ended_sequence_frees_the_slot_of_a_shorter_prefix_that_it_covers() -> None:
    cache = KvCacheManager(CELLS, 6, CELLS)
    for tokens in (PREFIX[:50], PREFIX):
        match = cache.match(tokens, len(tokens) - 1, to_come=len(tokens), reserved=0, running=0)
        slot, shared = cache.allocate(tokens, len(tokens) - 1, match)
        cache.extend(slot, tokens[shared:], end=len(tokens), drafted=False)
        cache.keep(slot)
    assert cache.lengths == {slot: len(PREFIX)}
    cache.check_integrity(0)
