"""Which saved prompt another one starts from, and which are worth saving."""

from itertools import chain

from hypothesis import given, settings
from hypothesis import strategies as st

from glmserve.engine.kv_cache.prefix_cache import common_prefix
from glmserve.engine.kv_cache.prefix_keys import PrefixKeys
from glmserve.engine.kv_cache.prompt_index import BLOCK, MIN_TOKENS, PromptIndex, SavedPrompt, TokenHashes
from glmserve.engine.messages import PrefixScope

SECRET = b"s" * 32
LONG = tuple(range(1000))


def hashes(tokens: tuple[int, ...], identity: str = "a model", secret: bytes = SECRET) -> TokenHashes:
    return TokenHashes(secret, identity, tokens)


def saved(tokens: tuple[int, ...], name: str = "", identity: str = "a model") -> SavedPrompt:
    found = hashes(tokens, identity)
    return SavedPrompt(name or found.at(len(tokens)).hex(), len(tokens), found.blocks, found.at(len(tokens)))


def index_of(*prompts: tuple[int, ...]) -> PromptIndex:
    index = PromptIndex()
    for tokens in prompts:
        index.add(saved(tokens))
    return index


def shared(index: PromptIndex, tokens: tuple[int, ...]) -> int:
    match = index.match(hashes(tokens))
    return match.shared if match else 0


def test_a_prompt_that_goes_on_starts_after_all_of_the_saved_one_and_one_that_leaves_it_after_the_last_block() -> None:
    index = index_of(LONG[:777])
    assert shared(index, (*LONG[:777], 5, 6)) == 777
    assert shared(index, LONG[:777]) == 777
    assert shared(index, LONG[:776]) == 776 // BLOCK * BLOCK
    assert shared(index, (*LONG[:500], 5, 6)) == 500 // BLOCK * BLOCK
    assert shared(index, (7, *LONG[1:777])) == 0


def test_nothing_is_found_with_another_secret_model_build_or_caller() -> None:
    index = index_of(LONG)
    assert index.match(hashes(LONG)) is not None
    assert index.match(hashes(LONG, secret=b"t" * 32)) is None
    assert index.match(hashes(LONG, identity="another model")) is None
    keys = PrefixKeys(SECRET)
    ann, bob = (keys.of(LONG, PrefixScope(owner))[0] for owner in ("ann", "bob"))
    of_ann = index_of(ann)
    assert shared(of_ann, ann) == len(LONG)
    assert shared(of_ann, bob) == shared(of_ann, LONG) == 0
    assert PrefixKeys(SECRET).of(LONG, PrefixScope("ann"))[0] == ann, "the next process has other keys"


@settings(max_examples=200, deadline=None)
@given(
    prompts=st.lists(st.lists(st.sampled_from([LONG[:40], LONG[:70], LONG[3:9], LONG[:1]]), min_size=1, max_size=5)),
    asked=st.lists(st.sampled_from([LONG[:40], LONG[:70], LONG[3:9]]), max_size=6),
)
def test_a_match_is_never_longer_than_what_is_common_and_at_most_a_block_shorter(
    prompts: list[list[tuple[int, ...]]], asked: list[tuple[int, ...]]
) -> None:
    kept = [tokens for parts in prompts if len(tokens := tuple(chain(*parts))) >= BLOCK]
    prompt = tuple(chain(*asked))
    best = max((common_prefix(tokens, prompt) for tokens in kept), default=0)
    match = index_of(*kept).match(hashes(prompt))
    if match is None:
        assert best < BLOCK
    else:
        (found,) = (tokens for tokens in dict.fromkeys(kept) if saved(tokens) == match.saved)
        assert best - BLOCK < match.shared <= common_prefix(found, prompt)
        assert match.shared <= best
        assert match.exactly(hashes(prompt), hashes(found).marks()) == common_prefix(found, prompt)


def test_what_is_mostly_saved_is_not_saved_again_but_a_conversation_that_went_on_is() -> None:
    index = index_of(LONG[:800])
    assert not index.is_worth_saving(hashes(LONG[:800]))
    assert not index.is_worth_saving(hashes(LONG[:600]))
    assert not index.is_worth_saving(hashes(LONG[:807]))
    assert index.is_worth_saving(hashes(LONG[:808]))
    assert not index.is_worth_saving(hashes((*LONG[:700], *range(5000, 5100)))), "seven eighths of it are saved"
    assert index.is_worth_saving(hashes((*LONG[:700], *range(5000, 5300))))
    assert not index.is_worth_saving(hashes(tuple(range(5000, 5063)))), "too short"


def test_a_prompt_that_goes_on_replaces_what_it_begins_with_alone() -> None:
    index = index_of(LONG[:100], LONG[:128], (*LONG[:100], 7), (7, *LONG[:50]))
    inside = index.inside(hashes(LONG[:200]))
    assert set(inside) == {saved(LONG[:100]).name, saved(LONG[:128]).name}
    index.remove(inside)
    assert len(index) == 2
    assert shared(index, LONG[:200]) == 96
    index.remove(index.names)
    assert index.match(hashes(LONG)) is None
    assert index.names == frozenset()


def test_a_memory_that_cannot_be_cut_starts_from_whole_prompts_and_keeps_the_shorter_ones() -> None:
    index = PromptIndex(cuts=False)
    for length in (100, 777):
        index.add(saved(LONG[:length]))
    for prompt, expected in ((LONG[:800], 777), (LONG[:777], 777), (LONG[:776], 100), (LONG[:99], 0)):
        assert shared(index, prompt) == expected
    assert index.inside(hashes(LONG)) == ()


def test_a_long_state_is_not_read_for_a_short_start_nor_where_the_cells_or_the_cache_make_it_useless() -> None:
    index = index_of(LONG)
    assert index.start(hashes(LONG), 0, 2000) is not None
    assert index.start(hashes(LONG), 0, 999) is None, "it does not fit"
    assert index.start(hashes(LONG), 990, 2000) is None, "nearly all of it is in memory"
    assert index.start(hashes((*LONG[:32], 7)), 0, 2000) is None, "a thousand tokens are read for 32"
    assert index.start(hashes((*LONG[:64], 7)), 0, 2000) is not None


def test_a_hash_is_of_all_tokens_before_it_and_one_stands_after_each_whole_block() -> None:
    for length in (BLOCK - 1, BLOCK, 2 * BLOCK - 1, 2 * BLOCK):
        assert len(hashes(LONG[:length]).blocks) == length // BLOCK
    one, other = hashes(LONG[:100]), hashes((7, *LONG[1:100]))
    assert [one.at(count * BLOCK) for count in (1, 2, 3)] == list(one.blocks)
    for length in range(1, 101):
        assert one.at(length) == hashes(LONG[:length]).at(length)
        assert one.at(length) != other.at(length)


def test_a_mark_for_each_token_tells_where_two_prompts_part() -> None:
    match = index_of(LONG[:100]).match(hashes(LONG[:64]))
    assert match is not None
    marks = hashes(LONG[:100]).marks()
    for same in (64, 65, 80, 99, 100):
        assert match.exactly(hashes((*LONG[:same], *range(5000, 5050))), marks) == same
    assert match.exactly(hashes(LONG[:70]), marks) == 70


def test_a_file_that_is_written_again_is_in_the_index_once() -> None:
    index = PromptIndex()
    index.add(saved(LONG[:100], name="x"))
    index.add(saved((7, *LONG[1:100]), name="x"))
    assert len(index) == 1
    assert shared(index, LONG[:100]) == 0
    index.remove(["x"])
    assert shared(index, (7, *LONG[1:100])) == 0


def test_of_the_states_that_share_as_much_the_smallest_is_read_if_it_fits() -> None:
    index = index_of(LONG[:150], LONG[:100], LONG[:200])
    match = index.match(hashes((*LONG[:97], 5, 6)))
    assert match is not None
    assert (match.shared, match.saved.length) == (96, 100)
    assert index.start(hashes(LONG[:250]), 0, cells=200) is not None
    assert index.start(hashes(LONG[:250]), 0, cells=199) is None


def test_a_prompt_is_worth_saving_from_its_least_length_on_and_is_not_inside_itself() -> None:
    assert index_of().is_worth_saving(hashes(LONG[:MIN_TOKENS]))
    assert not index_of().is_worth_saving(hashes(LONG[: MIN_TOKENS - 1]))
    assert index_of(LONG[:100]).inside(hashes(LONG[:100])) == ()
