"""llama.cpp's tokenizer on a converted file gives SentencePiece's ids."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sentencepiece

from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from glmserve.convert.vocab import chatglm as vocabulary
from glmserve.convert.vocab.chatglm import CHATGLM2_SPECIALS
from tests.support.chatglm2_checkpoint import Shape, make_weights, small_tokenizer, write_checkpoint
from tests.support.checkpoints import real_checkpoint
from tests.support.native import Tokenizer, loaded

STRINGS = 4000
"""Per tokenizer; half of them mixed from the fragments, half of random characters."""

FRAGMENTS = (
    "[Round 1]\n\n问：", "\n\n答：", "你好", "北京是中国的首都。", "，", "（）；…", "龘", "𠀀",
    "the quick brown fox", " stop", "Hello, ", "sop", "eop", "s", "o", "p", "e",
    "[gMASK]", "[MASK]", "[sMASK]", "<sop>", "</s>", "<s>", "<unk>", "<0x0A>", "[PAD64800]", "<|user|>",
    " ", "  ", "        ", "\t", "\n", "\n\n\n", "\r\n", "\u3000", "\u00a0", "\u200b", "▁", "▁▁",
    "0", "12", "3.14159", "2023年", "👋", "👨‍👩‍👧", "é", "e\u0301", "ß", "Привет", "こんにちは", "안녕",
    "\x00", "\x07", "\x1b[0m", "\x7f", "\ufeff", "\ufffd", "\U0010ffff",
)  # fmt: skip

EDGES = (
    "", " ", "  ", "\n", "\x00", "a\x00b", "▁", " ▁", "▁ ", "sop", "中sop", "xeop", "sophisticated",
    "[gMASK]sop你好", "</s>", "<0x0A>", "<sop>", "\ud7ff\ue000", "字" * 3000, " " * 3000, "a" * 3000,
)  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """The two tokenizers."""

    ours: Tokenizer
    reference: sentencepiece.SentencePieceProcessor

    @property
    def prefix(self) -> list[int]:
        size = self.reference.get_piece_size()
        return [size + 1, size + 3]


def real() -> bytes:
    return (real_checkpoint("chatglm2-6b", "tokenizer.model") / "tokenizer.model").read_bytes()


def tiny() -> bytes:
    path = Path(__file__).parents[2] / "models" / "tiny" / "tokenizer.model"
    if not path.exists():
        pytest.skip("models/tiny has no tokenizer.model")
    return path.read_bytes()


def converted(folder: Path, model: bytes) -> Path:
    size = sentencepiece.SentencePieceProcessor(model_proto=model).get_piece_size()
    vocab = 65024 if size > 60000 else size + 20
    shape = Shape(hidden=128, heads=1, groups=1, layers=1, ffn=32, vocab=vocab)
    write_checkpoint(folder, shape, make_weights(shape, 1), tokenizer=model, dtype="F16")
    convert_checkpoint(folder, folder / "m.gguf", QuantType.F16)
    return folder / "m.gguf"


@pytest.fixture(scope="module", params=[small_tokenizer, tiny, real])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    model = request.param()
    path = converted(tmp_path_factory.mktemp("tokenizer"), model)
    with loaded(path, vocab_only=True) as handle:
        yield Pair(Tokenizer(handle), sentencepiece.SentencePieceProcessor(model_proto=model))


def mixed_strings(seed: int) -> Iterator[str]:
    rng = random.Random(seed)
    ranges = ((0x00, 0x7F), (0x4E00, 0x9FFF), (0x20, 0x7E), (0x00, 0xD7FF), (0xE000, 0x10FFFF))
    for _ in range(STRINGS // 2):
        yield "".join(rng.choice(FRAGMENTS) for _ in range(rng.randint(1, 12)))
        yield "".join(chr(rng.randint(*rng.choice(ranges))) for _ in range(rng.randint(1, 24)))


def test_ids_of_thousands_of_mixed_strings_are_equal(pair: Pair) -> None:
    texts = list(mixed_strings(7))
    assert len(texts) == STRINGS
    assert [t for t in texts if pair.ours.encode(t) != pair.reference.encode(t)] == []


@pytest.mark.parametrize("text", EDGES, ids=lambda text: repr(text[:12]))
def test_ids_of_edge_cases_are_equal(pair: Pair, text: str) -> None:
    assert pair.ours.encode(text) == pair.reference.encode(text)


def test_plain_text_never_gives_a_special_token(pair: Pair) -> None:
    first_special = pair.reference.get_piece_size()
    for text in (*FRAGMENTS, *EDGES, *mixed_strings(8), "中sop", "xeop", *CHATGLM2_SPECIALS, "</s><s><unk>"):
        ids = set(pair.ours.encode(text))
        assert max(ids, default=0) < first_special
        assert not ids & {0, 1, 2}


def test_only_the_end_token_ends_a_generation(pair: Pair) -> None:
    assert pair.ours.ends() == {2}


@pytest.mark.parametrize("text", ["[Round 1]\n\n问：你好\n\n答：", "[Round 1]\n\n问： sophisticated sop 中eop\n\n答："])
def test_the_rendered_template_gives_the_two_special_ids_and_then_the_text(pair: Pair, text: str) -> None:
    rendered = "[gMASK]<sop>" + text
    assert pair.ours.encode(rendered, special=True) == pair.prefix + pair.reference.encode(text)


def test_the_authors_name_of_the_start_token_would_be_found_in_plain_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why it is called <sop> in the file: llama.cpp merges "s" and "op" to a control token of that name."""
    model = real()
    monkeypatch.setattr(vocabulary, "CHATGLM2_SPECIALS", ("[MASK]", "[gMASK]", "[sMASK]", "sop", "eop", "<sop>"))
    monkeypatch.setattr(vocabulary, "check_texts", lambda path, pieces: None)
    with loaded(converted(tmp_path, model), vocab_only=True) as handle:
        assert 64792 in Tokenizer(handle).encode("中sop")
