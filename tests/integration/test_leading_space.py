"""The space in front of an answer is part of it, unless the vocabulary itself puts one in front of every text."""

from dataclasses import replace
from pathlib import Path

import pytest
from sentencepiece import SentencePieceProcessor

from glmserve.chat.tokenizer.llama_tokenizer import load_tokenizer
from glmserve.convert.gguf_format import FamilyName
from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from glmserve.generation.detokenizer import Detokenizer
from tests.support import baichuan_checkpoint
from tests.support.chatglm2_checkpoint import Shape, make_weights, train_tokenizer, write_checkpoint

TINY = Shape(hidden=128, heads=1, groups=1, layers=1, ffn=32, vocab=560)
LINES = ["def add(a, b): return a + b", "    return a", "今天 天气 很好"]


def chatglm(folder: Path, family: FamilyName, *, dummy: bool) -> tuple[Path, bytes]:
    model = train_tokenizer(LINES, 300, add_dummy_prefix=dummy)
    shape = replace(TINY, vocab=SentencePieceProcessor(model_proto=model).get_piece_size() + 20)
    write_checkpoint(folder, shape, make_weights(shape, 1), tokenizer=model)
    convert_checkpoint(folder, folder / "m.gguf", QuantType.F16, family=family)
    return folder / "m.gguf", model


def baichuan(folder: Path) -> tuple[Path, bytes]:
    shape = baichuan_checkpoint.ROTARY
    baichuan_checkpoint.write_checkpoint(folder, shape, baichuan_checkpoint.make_weights(shape, 1))
    convert_checkpoint(folder, folder / "m.gguf", QuantType.F16)
    return folder / "m.gguf", baichuan_checkpoint.small_tokenizer()


@pytest.mark.parametrize("kind", ["chatglm2", "codegeex2", "baichuan"])
def test_text_comes_out_as_sentencepiece_decodes_it(kind: str, tmp_path: Path) -> None:
    if kind == "baichuan":
        path, model = baichuan(tmp_path)
    else:
        path, model = chatglm(tmp_path, FamilyName(kind), dummy=kind == "chatglm2")
    tokenizer, reference = load_tokenizer(path), SentencePieceProcessor(model_proto=model)
    for text in ("a", " a", "    return a", "天气", ""):
        ids = reference.encode(text)
        detokenizer = Detokenizer(strip_leading_space=tokenizer.strips_leading_space)
        assert "".join(detokenizer.feed(tokenizer.piece(i)) for i in ids) == reference.decode(ids)
