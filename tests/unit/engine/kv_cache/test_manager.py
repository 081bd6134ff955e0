"""The bookkeeping of cells: what fits beside the running sequences, and when an offloaded prefix is loaded."""

import pytest

from glmserve.engine.kv_cache.manager import KvCacheManager
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
