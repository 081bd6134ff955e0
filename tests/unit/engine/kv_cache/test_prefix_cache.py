"""The book of cells: sharing, counting, eviction order."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from glmserve.engine.kv_cache.prefix_cache import PrefixCache, PrefixMatch, common_prefix


def _with(*prompts: list[int]) -> PrefixCache:
    """A cache in which each prompt was computed in turn, from what the ones before it left."""
    cache = PrefixCache()
    for slot, prompt in enumerate(prompts):
        match = cache.match(prompt, len(prompt))
        cache.open(slot, match)
        rest = prompt[cache.length(slot) :]
        if rest:
            cache.extend(slot, rest)
        cache.unpin(slot)
        cache.check_integrity()
    return cache


def _match(cache: PrefixCache, prompt: list[int], limit: int) -> PrefixMatch:
    match = cache.match(prompt, limit)
    assert match is not None
    return match


def test_an_empty_cache_matches_nothing() -> None:
    assert PrefixCache().match([1, 2, 3], 3) is None


def test_the_longest_cached_prefix_is_found_in_the_middle_of_a_segment() -> None:
    cache = _with([1, 2, 3, 4, 5])
    match = _match(cache, [1, 2, 3, 9], 3)
    assert (match.slot, match.length) == (0, 3)


def test_a_match_stops_at_its_limit_so_that_one_token_is_left_to_compute() -> None:
    assert _match(_with([1, 2, 3]), [1, 2, 3], 2).length == 2


def test_shared_cells_are_counted_once() -> None:
    cache = _with([1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 7])
    assert cache.cells_used == 6
    assert [cache.tokens(slot) for slot in range(3)] == [[1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 7]]


def test_releasing_a_slot_frees_only_what_nobody_shares() -> None:
    cache = _with([1, 2, 3, 4], [1, 2, 3, 5])
    cache.release(0)
    cache.check_integrity()
    assert cache.cells_used == 4
    assert cache.tokens(1) == [1, 2, 3, 5]


def test_equal_tokens_computed_apart_have_cells_of_their_own() -> None:
    cache = PrefixCache()
    for slot in (0, 1):
        cache.open(slot)
        cache.extend(slot, [1, 2, 3])
    assert cache.cells_used == 6
    cache.unpin(0)
    cache.unpin(1)
    assert cache.redundant(0) == [0]


def test_pinned_slots_are_never_offered_for_eviction_and_the_oldest_idle_one_is() -> None:
    cache = _with([1, 2], [3, 4], [5, 6])
    cache.touch(0)
    assert cache.evictable() == 1
    cache.open(3, cache.match([3, 4], 2))
    assert cache.evictable() == 2


def test_a_prompt_starts_from_the_slot_that_was_used_last() -> None:
    cache = _with([1, 2, 3], [1, 2, 4])
    assert _match(cache, [1, 2, 9], 2).slot == 1
    cache.touch(0)
    assert _match(cache, [1, 2, 9], 2).slot == 0


def test_a_sequence_uses_its_slot_until_it_ends() -> None:
    cache = PrefixCache()
    for slot in (0, 1):
        cache.open(slot)
        cache.extend(slot, [slot])
    cache.unpin(1)
    cache.unpin(0)
    assert cache.evictable() == 1


def test_a_spare_prefix_that_continues_another_one_is_as_good_as_that() -> None:
    cache = _with([5, 6], [1, 2], [1, 2, 3])
    cache.make_spare(2)
    assert cache.evictable() == 0
    cache.make_spare(1)
    cache.make_spare(2)
    cache.release(1)
    assert cache.evictable() == 2


def test_a_slot_is_spare_as_long_as_it_holds_its_prefix() -> None:
    cache = _with([5, 6], [1, 2])
    cache.make_spare(1)
    cache.release(1)
    cache.open(1)
    cache.extend(1, [7, 8])
    cache.unpin(1)
    assert cache.evictable() == 0


def test_a_slot_without_a_token_is_redundant_and_one_with_a_token_is_not() -> None:
    cache = PrefixCache()
    for slot, tokens in enumerate(([], [1])):
        cache.open(slot)
        if tokens:
            cache.extend(slot, tokens)
        cache.unpin(slot)
    assert cache.redundant(0) == [0]
    cache.release(0)
    assert cache.redundant(1) == []


def test_a_slot_inside_a_longer_one_is_redundant() -> None:
    cache = _with([1, 2], [1, 2, 3])
    assert cache.redundant(1) == [0]


def test_pinned_cells_are_those_that_running_slots_pass_through() -> None:
    cache = _with([1, 2, 3, 4])
    cache.open(1, cache.match([1, 2, 9], 2))
    assert (cache.cells_used, cache.cells_pinned) == (4, 2)
    cache.extend(1, [9])
    assert (cache.cells_used, cache.cells_pinned) == (5, 3)
    cache.check_integrity()


def test_a_match_says_how_many_of_its_cells_no_running_sequence_keeps() -> None:
    cache = _with([1, 2, 3, 4])
    assert _match(cache, [1, 2, 3, 4], 4).unpinned == 4
    cache.open(1, cache.match([1, 2, 9], 2))
    assert _match(cache, [1, 2, 3, 4], 4).unpinned == 2


@given(st.lists(st.integers(0, 2), max_size=40), st.lists(st.integers(0, 2), max_size=40))
@example([1, 2, 3], [1, 3, 3])
def test_common_prefix_is_what_a_loop_finds(a: list[int], b: list[int]) -> None:
    expected = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    assert common_prefix(a, b) == expected


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=10), st.data())
def test_any_mix_of_runs_and_releases_keeps_the_books_right(prompts: list[list[int]], data: st.DataObject) -> None:
    cache = PrefixCache()
    live: dict[int, list[int]] = {}
    for slot, prompt in enumerate(prompts):
        match = cache.match(prompt, len(prompt) - 1)
        best = max((common_prefix(prompt[:-1], pinned) for pinned in live.values()), default=0)
        assert (match.length if match else 0) == best
        cache.open(slot, match)
        cache.extend(slot, prompt[best:])
        live[slot] = prompt
        if data.draw(st.booleans()):
            cache.unpin(slot)
        if data.draw(st.booleans()):
            gone = data.draw(st.sampled_from(sorted(live)))
            cache.release(gone)
            del live[gone]
        cache.check_integrity()
        assert {slot: cache.tokens(slot) for slot in live} == live


def test_the_integrity_check_notices_a_wrong_count() -> None:
    cache = _with([1, 2, 3])
    cache.cells_used += 1
    with pytest.raises(AssertionError, match="cells do not add up"):
        cache.check_integrity()
