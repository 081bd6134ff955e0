"""Tokens that a fine-tune added are kept as transformers finds them, or the conversion says which would be lost."""

import dataclasses
import json
from pathlib import Path

import jinja2
import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from glmserve.chat.prompts.formats import chatglm2_text
from glmserve.chat.prompts.messages import Message, Role, to_conversation
from glmserve.chat.tokenizer.llama_tokenizer import load_tokenizer
from glmserve.convert.errors import CheckpointError, ConvertError, CorruptFileError, MissingFileError, VocabularyError
from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from glmserve.convert.vocab import chatglm as vocabulary
from glmserve.convert.vocab.chat_templates import CHATGLM2_TEMPLATE
from glmserve.convert.vocab.chatglm import load_vocabulary, vocabulary_metadata
from glmserve.convert.vocab.tokenizer_model import PieceType, read_model
from tests.support.chatglm2_checkpoint import Shape, make_weights, small_tokenizer, write_checkpoint
from tests.support.checkpoints import real_checkpoint

SHAPE = Shape(layers=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "hf", SHAPE, make_weights(SHAPE, 1))


def first_free(folder: Path) -> int:
    return len(read_model(folder / "tokenizer.model").pieces) + 5


def add(folder: Path, tokens: dict[int, str], **flags: bool) -> None:
    listed = {str(number): {"content": text, **flags} for number, text in tokens.items()}
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": listed}), "utf-8")


def test_an_added_token_is_cut_out_of_a_text_as_transformers_does_it(folder: Path, tmp_path: Path) -> None:
    """They were padding after the conversion, without a word."""
    free = first_free(folder)
    add(folder, {free: "<酒店>", free + 2: "glucose"})
    convert_checkpoint(folder, tmp_path / "m.gguf", QuantType.F16)
    tokenizer = load_tokenizer(tmp_path / "m.gguf")
    reference = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    for before, after in (("你好", " world"), ("", "a"), ("x ", "")):
        for text, token in (("<酒店>", free), ("glucose", free + 2)):
            ids = [*(reference.encode(before) if before else ()), token, *(reference.encode(after) if after else ())]
            assert list(tokenizer.encode(before + text + after)) == ids
    assert tokenizer.piece(free) == "<酒店>".encode()
    tokenizer.close()


def test_both_lists_are_read(folder: Path) -> None:
    free = first_free(folder)
    (folder / "added_tokens.json").write_text(json.dumps({"<x>": free, "<y>": free + 1}), "utf-8-sig")
    pieces = load_vocabulary(folder / "tokenizer.model", SHAPE.vocab).pieces
    assert [(piece.text, piece.type) for piece in pieces[free : free + 2]] == [
        ("<x>", PieceType.USER_DEFINED),
        ("<y>", PieceType.USER_DEFINED),
    ]


def test_what_the_authors_list_themselves_is_known(folder: Path) -> None:
    """As save_pretrained of later transformers writes it for an unchanged tokenizer."""
    free = first_free(folder)
    add(folder, {0: "<unk>", 2: "</s>", free - 4: "[gMASK]", free - 2: "sop"}, lstrip=True, special=True)
    before = load_vocabulary(folder / "tokenizer.model", SHAPE.vocab)
    (folder / "tokenizer_config.json").unlink()
    assert load_vocabulary(folder / "tokenizer.model", SHAPE.vocab) == before


def test_the_lists_of_real_checkpoints_are_known() -> None:
    for name in ("chatglm2-6b", "chatglm3-6b"):
        path = real_checkpoint(name, "tokenizer.model") / "tokenizer.model"
        assert not [p for p in load_vocabulary(path, 65024).pieces if p.type is PieceType.USER_DEFINED]


@pytest.mark.parametrize(
    ("offset", "text", "flags", "says"),
    [
        (0, "<x>", {"lstrip": True}, "found with lstrip"),
        (0, "<x>", {"single_word": True}, "found with single_word"),
        (10_000, "<x>", {}, "outside of the .* rows"),
        (0, "</s>", {}, "is a token already, with id 2"),
        (-3, "<x>", {}, "takes the place of '.sMASK.'"),
        (0, "", {}, "no text"),
        (0, "a\0b", {}, "no text"),
        (0, "<|im_end|>", {}, "end of an answer"),
    ],
)
def test_a_token_that_would_be_lost_is_named(
    folder: Path, offset: int, text: str, flags: dict[str, bool], says: str
) -> None:
    add(folder, {first_free(folder) + offset: text}, **flags)
    with pytest.raises(VocabularyError, match=says):
        load_vocabulary(folder / "tokenizer.model", SHAPE.vocab)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("added_tokens.json", {"<x>": "12"}),
        ("added_tokens.json", {"<x>": -1}),
        ("added_tokens.json", {"<x>": True}),
        ("tokenizer_config.json", {"added_tokens_decoder": []}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"x": {"content": "<x>"}}}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"900": "<x>"}}),
    ],
)
def test_a_list_without_sense_is_one_clear_error(folder: Path, file: str, content: object) -> None:
    (folder / file).write_text(json.dumps(content))
    with pytest.raises(CorruptFileError, match=file):
        load_vocabulary(folder / "tokenizer.model", SHAPE.vocab)


def test_lists_that_differ_are_refused(folder: Path) -> None:
    add(folder, {first_free(folder): "<x>"})
    (folder / "added_tokens.json").write_text(json.dumps({"<y>": first_free(folder)}))
    with pytest.raises(ConvertError, match="another text"):
        load_vocabulary(folder / "tokenizer.model", SHAPE.vocab)


def test_a_piece_with_a_nul_is_refused(tmp_path: Path) -> None:
    """llama.cpp cuts it off there, where it may be another piece's twin."""
    data = small_tokenizer()
    pieces = read_model(_written(tmp_path, data)).pieces
    name = next(p.text for p in pieces if len(p.text) > 1 and p.text.isascii() and p.type is PieceType.NORMAL)
    changed = data.replace(name.encode(), name.encode()[:-1] + b"\0", 1)
    with pytest.raises(VocabularyError, match="NUL character"):
        load_vocabulary(_written(tmp_path, changed), SHAPE.vocab)


def _written(folder: Path, data: bytes) -> Path:
    path = folder / "tokenizer.model"
    path.write_bytes(data)
    return path


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


Turns = list[tuple[str, str]]


def rendered(turns: Turns, *, add_generation_prompt: bool = True) -> str:
    messages = [{"role": role, "content": content} for role, content in turns]
    template = jinja2.Environment(autoescape=False).from_string(CHATGLM2_TEMPLATE)
    return template.render(messages=messages, add_generation_prompt=add_generation_prompt)


def test_the_authors_prompt_follows_the_two_special_tokens() -> None:
    turns = [("user", "你好"), ("assistant", "你好👋！"), ("user", "再见 {{x}}\n")]
    assert rendered(turns) == (
        "[gMASK]<sop>[Round 1]\n\n问：你好\n\n答：你好👋！\n\n[Round 2]\n\n问：再见 {{x}}\n\n\n答："
    )


@pytest.mark.parametrize(
    "turns",
    [
        [("user", "a")],
        [("system", "s"), ("user", "a")],
        [("system", "s"), ("system", "t"), ("user", "a"), ("assistant", "b"), ("user", "c")],
        [("user", "a"), ("user", "b"), ("assistant", "c"), ("assistant", "d"), ("user", "e")],
        [("assistant", "hello"), ("user", "a")],
        [("user", "a"), ("assistant", "b"), ("system", "s"), ("user", "c")],
        [("user", ""), ("assistant", ""), ("user", " ")],
    ],
)
def test_it_gives_what_the_server_gives(turns: Turns) -> None:
    conversation = to_conversation([Message(Role(role), content) for role, content in turns])
    assert rendered(turns) == "[gMASK]<sop>" + chatglm2_text(conversation.turns, conversation.query)


def test_without_a_generation_prompt_it_ends_with_the_question() -> None:
    assert rendered([("user", "a")], add_generation_prompt=False).endswith("问：a")


def test_llama_cpp_does_not_mistake_it_for_a_template_it_knows() -> None:
    for known in ("[gMASK]<sop>", "[gMASK]sop", "<|user|>", "<|im_start|>"):
        assert known not in CHATGLM2_TEMPLATE
