"""Stored responses and the items of a conversation: their bounds, and their owners."""

from hypothesis import given
from hypothesis import strategies as st

from glmserve.api.openai.responses.conversation import Item, parse_item, user_item
from glmserve.api.openai.responses.request import latest
from glmserve.api.openai.responses.response_store import ResponseStore, StoredResponse


def said(text: str) -> Item:
    return parse_item({"role": "assistant", "content": text}, "item")


SYSTEM = parse_item({"role": "system", "content": "s" * 50}, "item")
ROUNDS = [item for number in range(100) for item in (user_item(f"{number:04}"), said("yes!"))]


def test_what_a_context_could_hold_stays_whole() -> None:
    assert latest([SYSTEM, *ROUNDS], 1000, 10_000) == (SYSTEM, *ROUNDS)


def test_the_oldest_rounds_go_by_number_and_by_text_and_system_text_stays() -> None:
    assert latest([SYSTEM, *ROUNDS], 21, 10_000) == (SYSTEM, *ROUNDS[-20:])
    assert latest([SYSTEM, *ROUNDS], 1000, 151) == (SYSTEM, *ROUNDS[-20:])


def test_what_is_left_begins_with_a_question_and_the_last_one_stays() -> None:
    assert latest(ROUNDS, 3, 10_000) == tuple(ROUNDS[-2:])
    assert latest(ROUNDS, 0, 0) == tuple(ROUNDS[-2:])


def response(name: str, size: int = 10) -> StoredResponse:
    return StoredResponse(name, b"x" * (size - size // 2), (b"y" * (size // 2),))


def test_what_was_put_in_is_there_until_it_is_deleted() -> None:
    store = ResponseStore(10, 1000)
    store.put("me", response("a"))
    assert store.get("me", "a") == response("a")
    assert store.delete("me", "a")
    assert store.get("me", "a") is None
    assert not store.delete("me", "a")


def test_the_responses_of_one_owner_do_not_exist_for_another() -> None:
    store = ResponseStore(10, 1000)
    store.put("me", response("a"))
    assert store.get("you", "a") is None
    assert not store.delete("you", "a")
    assert store.get("me", "a") is not None


def test_the_one_not_used_for_longest_goes_first() -> None:
    store = ResponseStore(2, 1000)
    store.put("", response("a"))
    store.put("", response("b"))
    store.get("", "a")
    store.put("", response("c"))
    assert [store.get("", name) is not None for name in "abc"] == [True, False, True]


def test_bytes_are_bounded_too() -> None:
    store = ResponseStore(10, 100)
    for name in "ab":
        store.put("", response(name, 50))
    store.put("", response("c", 51))
    assert [store.get("", name) is not None for name in "abc"] == [False, False, True]


def test_one_that_is_too_large_is_not_kept_and_drives_no_other_out() -> None:
    store = ResponseStore(10, 100)
    store.put("", response("a"))
    store.put("", response("b", 101))
    assert store.get("", "a") is not None
    assert store.get("", "b") is None


def test_a_store_for_none_keeps_none() -> None:
    store = ResponseStore(0, 100)
    store.put("", response("a"))
    assert store.get("", "a") is None


@given(st.lists(st.tuples(st.sampled_from(("put", "get", "delete")), st.integers(0, 5), st.integers(1, 60))))
def test_whatever_is_done_the_bounds_hold_and_nothing_else_is_forgotten(steps: list[tuple[str, int, int]]) -> None:
    store = ResponseStore(3, 100)
    kept: list[StoredResponse] = []
    for number, (verb, owner, size) in enumerate(steps):
        wanted = kept[owner % len(kept)].id if kept else "none"
        if verb == "put":
            one = response(str(number), size)
            store.put("", one)
            kept.append(one)
            while len(kept) > 3 or sum(item.size for item in kept) > 100:
                del kept[0]
        elif verb == "get" and store.get("", wanted) is not None:
            kept.append(kept.pop([item.id for item in kept].index(wanted)))
        elif verb == "delete":
            store.delete("", wanted)
            kept = [item for item in kept if item.id != wanted]
    assert [item.id for item in kept if store.get("", item.id) is None] == []
    assert all(
        store.get("", str(number)) is None for number in range(len(steps)) if str(number) not in {k.id for k in kept}
    )
