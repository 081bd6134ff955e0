"""Text is normalised and cut as SentencePiece does it before it looks for pieces."""

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from glmserve.chat.tokenizer.normalizer import NormalizationTable, Normalizer, Segment
from glmserve.convert.vocab.tokenizer_model import SentencePieceModel, read_model
from tests.support.baichuan_checkpoint import small_tokenizer

PIECES = ("<br>", "---", "-->", "<!--", "```", "\n")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> SentencePieceModel:
    path = tmp_path_factory.mktemp("normalize") / "tokenizer.model"
    path.write_bytes(small_tokenizer())
    return read_model(path)


@pytest.fixture(scope="module")
def nfkc(model: SentencePieceModel) -> Normalizer:
    return Normalizer(NormalizationTable(model.charsmap), PIECES, space_prefix=True)


def segments(normalizer: Normalizer, text: str) -> list[tuple[str, bool]]:
    return [(segment.text, segment.is_piece) for segment in normalizer.segments(text)]


def test_full_width_forms_and_ligatures_become_what_they_stand_for(nfkc: Normalizer) -> None:
    assert nfkc.normalize("（ﬁ；①）") == "(fi;1)"


def test_a_letter_and_its_accent_become_one_character(nfkc: Normalizer) -> None:
    assert nfkc.normalize("e\u0301か\u3099") == "éが"


def test_control_characters_vanish(nfkc: Normalizer) -> None:
    assert nfkc.normalize("a\x07b") == "ab"


def test_user_defined_pieces_are_not_normalised_and_stand_alone() -> None:
    only = Normalizer(None, ("（", "<br>"), space_prefix=False)
    assert segments(only, "a（b<br>") == [("a", False), ("（", True), ("b", False), ("<br>", True)]


def test_a_piece_that_normalisation_makes_stands_alone_too(nfkc: Normalizer) -> None:
    assert segments(nfkc, "a＜br＞") == [(" a", False), ("<br>", True)]


def test_of_overlapping_pieces_the_leftmost_wins_and_then_the_longest(nfkc: Normalizer) -> None:
    assert segments(nfkc, "---->") == [(" ", False), ("---", True), ("->", False)]
    assert segments(nfkc, "<!---->") == [(" ", False), ("<!--", True), ("-->", True)]


def test_no_text_has_no_segments_and_no_space(nfkc: Normalizer) -> None:
    assert segments(nfkc, "") == []


def test_without_pieces_and_table_text_stays_one_segment() -> None:
    assert list(Normalizer(None, (), space_prefix=False).segments("（<br>")) == [Segment("（<br>", is_piece=False)]


@pytest.mark.parametrize("damage", [b"", b"1234567", b"\xff\xff\xff\x7f" + bytes(8), b"\x05\0\0\0" + bytes(20)])
def test_a_damaged_table_is_said_to_be_one(damage: bytes) -> None:
    with pytest.raises(ValueError, match="normalisation table"):
        NormalizationTable(damage)


_REFERENCE = sentencepiece.SentencePieceProcessor(model_proto=small_tokenizer())


@settings(max_examples=300)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_any_text_is_normalised_as_sentencepiece_does_it(model: SentencePieceModel, text: str) -> None:
    pieces = [p.text for p in model.pieces if p.type == 4]
    normalizer = Normalizer(NormalizationTable(model.charsmap), pieces, space_prefix=True)
    ours = "".join(segment.text for segment in normalizer.segments(text)).replace(" ", "▁")
    assert ours == _REFERENCE.normalize(text)
