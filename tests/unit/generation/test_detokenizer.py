"""Text comes out the same however the bytes were cut, and never past a stop string."""

from hypothesis import given
from hypothesis import strategies as st

from glmserve.generation.detokenizer import Detokenizer, StopChecker


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data]


def detokenize(pieces: list[bytes], *, strip: bool = False) -> tuple[str, str]:
    detokenizer = Detokenizer(strip_leading_space=strip)
    fed = "".join(detokenizer.feed(piece) for piece in pieces)
    return fed, detokenizer.finish()


SIZES = st.lists(st.integers(0, 4))


@given(st.binary(max_size=40), SIZES)
def test_any_cutting_gives_what_decoding_at_once_gives(data: bytes, sizes: list[int]) -> None:
    fed, rest = detokenize(cut(data, sizes))
    assert fed + rest == data.decode("utf-8", "replace")


@given(st.text(max_size=20))
def test_byte_by_byte_no_half_character_comes_out(text: str) -> None:
    detokenizer = Detokenizer(strip_leading_space=False)
    data = text.encode()
    for count in range(len(data)):
        assert detokenizer.feed(data[count : count + 1]) in ("", *text)
    assert detokenizer.finish() == ""


def test_a_character_cut_off_by_the_end_becomes_the_replacement_character() -> None:
    assert detokenize(["你".encode()[:2]]) == ("", "\ufffd")


def test_an_invalid_byte_is_replaced_as_soon_as_it_is_certain() -> None:
    assert detokenize([b"\xe4", b"a"]) == ("\ufffda", "")


def test_only_the_first_space_of_the_first_piece_is_the_dummy_prefix() -> None:
    assert detokenize([b"", b"  a", b" b"], strip=True)[0] == " a b"
    assert detokenize([b"a", b" b"], strip=True)[0] == "a b"
    assert detokenize([b" a"], strip=False)[0] == " a"


def check(pieces: list[str], *stops: str) -> tuple[str, str | None]:
    checker = StopChecker(stops)
    text = "".join(checker.feed(piece) for piece in pieces)
    return text + checker.finish(), checker.found


def expected(text: str, stops: tuple[str, ...]) -> tuple[str, str | None]:
    """Read character by character until a stop string is complete: the definition, without any cleverness."""
    for end in range(len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            longest = max(found, key=len)
            return text[: end - len(longest)], longest
    return text, None


LETTERS = st.text("ab", max_size=12)


@given(LETTERS, st.lists(st.text("ab", min_size=1, max_size=4), max_size=3), SIZES)
def test_any_cutting_stops_where_reading_one_character_at_a_time_does(
    text: str, stops: list[str], sizes: list[int]
) -> None:
    pieces = [piece.decode() for piece in cut(text.encode(), sizes)]
    assert check(pieces, *stops) == expected(text, tuple(stops))


def test_text_that_may_be_a_stop_string_is_held_back_until_that_is_settled() -> None:
    checker = StopChecker(("<end>",))
    assert checker.feed("a<en") == "a"
    assert checker.feed("t") == "<ent"
    assert checker.feed("<") == ""
    assert checker.finish() == "<"


def test_a_stop_string_across_pieces_is_cut_off_with_all_that_follows() -> None:
    assert check(["one ST", "OP two", " three"], "STOP") == ("one ", "STOP")


def test_the_first_stop_string_to_be_complete_wins() -> None:
    assert check(["abcdef"], "abcdef", "cd") == ("ab", "cd")


def test_without_stop_strings_nothing_is_held_back() -> None:
    checker = StopChecker(())
    assert checker.feed("a") == "a"
    assert not checker.stopped
