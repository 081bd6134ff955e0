"""The bookkeeping of cells: what fits beside the running sequences, and when an offloaded prefix is loaded."""

import pytest

from glmserve.engine.kv_cache.manager import AFTER_CHECKPOINT, MIN_CHECKPOINT, KvCacheManager, checkpoints
from glmserve.engine.kv_cache.ops import Load

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
