"""Tokens that a fine-tune added are kept as transformers finds them, or the conversion says which would be lost."""

import json
from pathlib import Path

import pytest
import sentencepiece

from glmserve.chat.tokenizer.llama_tokenizer import load_tokenizer
from glmserve.convert.errors import ConvertError, CorruptFileError, VocabularyError
from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from glmserve.convert.vocab.chatglm import load_vocabulary
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
