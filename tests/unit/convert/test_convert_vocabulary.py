import dataclasses
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from glmserve.convert.errors import CheckpointError, MissingFileError, VocabularyError
from glmserve.convert.vocab import chatglm as vocabulary
from glmserve.convert.vocab.chatglm import load_vocabulary, vocabulary_metadata
from glmserve.convert.vocab.tokenizer_model import PieceType, read_model
from tests.support.chatglm2_checkpoint import small_tokenizer
from tests.support.checkpoints import real_checkpoint


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(small_tokenizer())
    return path


def test_pieces_scores_and_types_are_those_sentencepiece_reports(tokenizer: Path) -> None:
    model = read_model(tokenizer)
    reference = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer))
    assert len(model.pieces) == reference.get_piece_size()
    for i, piece in enumerate(model.pieces):
        assert (piece.text, piece.score) == (reference.id_to_piece(i), reference.get_score(i))
        assert (piece.type is PieceType.BYTE) == reference.is_byte(i)
        assert (piece.type is PieceType.CONTROL) == reference.is_control(i)


def test_special_tokens_follow_the_pieces_and_padding_fills_the_rest(tokenizer: Path) -> None:
    count = len(read_model(tokenizer).pieces)
    result = load_vocabulary(tokenizer, count + 8)
    assert [p.text for p in result.pieces[count:]] == [
        "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>",
        f"[PAD{count + 5}]", f"[PAD{count + 6}]", f"[PAD{count + 7}]",
    ]  # fmt: skip
    assert {p.type for p in result.pieces[count : count + 5]} == {PieceType.CONTROL}
    assert {p.type for p in result.pieces[count + 5 :]} == {PieceType.UNUSED}
    assert result.prompt_prefix == (count + 1, count + 3)


def test_the_real_tokenizer_gives_the_known_ids() -> None:
    path = real_checkpoint("chatglm2-6b", "tokenizer.model") / "tokenizer.model"
    result = load_vocabulary(path, 65024)
    assert result.prompt_prefix == (64790, 64792)
    keys = vocabulary_metadata(result)
    assert keys["tokenizer.ggml.eos_token_id"] == 2
    assert keys["tokenizer.ggml.padding_token_id"] == 0
    assert keys["glmserve.prompt_format"] == "chatglm2"


def test_another_tokenizer_of_the_same_kind_is_refused_for_what_it_does() -> None:
    path = real_checkpoint("baichuan-13b-chat", "tokenizer.model") / "tokenizer.model"
    with pytest.raises(VocabularyError, match="normalises text"):
        load_vocabulary(path, 64000)


def test_a_vocabulary_larger_than_the_embedding_is_refused(tokenizer: Path) -> None:
    count = len(read_model(tokenizer).pieces)
    with pytest.raises(VocabularyError, match=f"more than padded_vocab_size {count + 4}"):
        load_vocabulary(tokenizer, count + 4)


def test_a_special_token_that_text_could_turn_into_is_refused(tokenizer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {piece.text for piece in read_model(tokenizer).pieces}
    piece = next(text for text in texts if len(text) > 1 and text.isalpha() and "x" + text not in texts)
    specials = ("[MASK]", "[gMASK]", "[sMASK]", "<sop>", "x" + piece)
    monkeypatch.setattr(vocabulary, "CHATGLM2_SPECIALS", specials)
    with pytest.raises(VocabularyError, match=f"would turn into the special token 'x{piece}'"):
        load_vocabulary(tokenizer, 512)


def test_equal_pieces_are_refused_because_llama_cpp_would_abort(
    tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocabulary, "CHATGLM2_SPECIALS", ("[MASK]", "[gMASK]", "[MASK]", "<sop>", "<eop>"))
    with pytest.raises(VocabularyError, match=r"'\[MASK\]' is empty, has a NUL character or appears twice"):
        load_vocabulary(tokenizer, 512)


def test_a_piece_that_llama_cpp_takes_for_an_end_is_refused(tokenizer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = read_model(tokenizer)
    last = dataclasses.replace(model.pieces[-1], text="<|im_end|>")
    changed = dataclasses.replace(model, pieces=(*model.pieces[:-1], last))
    monkeypatch.setattr(vocabulary, "read_model", lambda path: changed)
    with pytest.raises(VocabularyError, match="for the end of an answer"):
        load_vocabulary(tokenizer, 512)


def test_a_missing_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"tokenizer\.model is missing; .*copy it"):
        load_vocabulary(tmp_path / "tokenizer.model", 512)


@given(data=st.binary(max_size=100))
def test_a_file_that_is_no_tokenizer_is_refused_as_such(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "tokenizer.model"
    path.write_bytes(data)
    says = r"SentencePiece|not the tokenizer|empty, has|pointer of Git LFS|web page"
    with pytest.raises((VocabularyError, CheckpointError), match=says):
        load_vocabulary(path, 512)


def test_a_tokenizer_that_was_cut_off_is_refused(tokenizer: Path) -> None:
    tokenizer.write_bytes(tokenizer.read_bytes()[:1000])
    with pytest.raises(VocabularyError):
        load_vocabulary(tokenizer, 512)
