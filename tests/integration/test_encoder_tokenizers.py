"""Token ids of embedding models: those of the ``tokenizers`` library, which litellm brings into its environment."""

import json
import random
import subprocess
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from glmserve.chat.tokenizer.encoder_tokenizer import EncoderTokenizer, load_encoder_tokenizer
from glmserve.convert.errors import VocabularyError
from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from tests.support.encoders import (
    BERT_SPECIALS,
    UNIGRAM_STEPS,
    random_encoder,
    unigram_json,
    wordpiece_json,
    write_encoder,
)

REFERENCE = Path(__file__).parents[2] / ".venv-clients" / "openai2" / "bin" / "python"
PROGRAM = """\
import json, sys
from tokenizers import Tokenizer
file, texts = json.load(sys.stdin)
json.dump([one.ids for one in Tokenizer.from_file(file).encode_batch(texts)], sys.stdout)
"""

ALPHABETS = (
    "the cat sat on a mat ", "abcde ETAOIN,.!?-_'\"", "你好世界今天天气很好，。！？（）「」", "éèüñçÅßøİıſK ﬁﬂ",
    "\t\n\r \u3000\xa0\u200b\u2028\x01\x1b\x7f\x85\ufffd\ufeff",
    "\u0301\u0302\u0323\u0300\u0307\u0308\u030a\u0e33\u0e31\u093f\u094d\u200d\u20dd",
    "กขคงعربيहिन्दीสวัสดี", "ㄱㅏ각간한국어ｱｲｳﾞﾟＡＢＣ①②㍿", "🙂👍🏽👨‍👩‍👧🇨🇳", "▁_[]#<>/|", "ΑΒΓΣας", "豈更車賈",
)  # fmt: skip


def strings() -> Iterator[str]:
    """Yield thousands of texts: mixtures, each character once, marks on letters, and words of any length."""
    chance = random.Random(1)
    for _ in range(1500):
        chosen = chance.sample(ALPHABETS, 3)
        yield "".join(chance.choice(chance.choice(chosen)) for _ in range(chance.randint(0, 40)))
    yield from ("", " ", "  ", "a", "a ", " a", "a  b", "a\n\nb", "a" * 500)
    yield from ("c" * size + " the" for size in (98, 99, 100, 101, 102, 5000))
    yield from ("你" * 300, "é" * 100, "é" * 101, "e\u0301" * 101)
    for first in (*range(1, 0x3400, 64), *chance.sample(range(0x3400, 0x30000, 64), 50)):
        points = range(first, first + 64)
        yield " ".join(f"a{chr(point)}b" for point in points if not 0xD800 <= point < 0xE000)
    yield from (f"x{unicodedata.normalize('NFD', chr(point))}y" for point in range(0xA0, 0x2000, 3))
    yield from (
        f"{base}{chr(a)}{chr(b)}" for base in "ea\xa0" for a in range(0x300, 0x330) for b in range(0x300, 0x330, 5)
    )


TEXTS = tuple(strings())


def reference(file: Path, texts: Sequence[str]) -> list[list[int]]:
    ask = json.dumps([str(file), texts]).encode()
    done = subprocess.run([REFERENCE, "-c", PROGRAM], input=ask, capture_output=True, check=True, timeout=120)
    ids: list[list[int]] = json.loads(done.stdout)
    return ids


def tokenizer_of(folder: Path, kind: str, content: object) -> EncoderTokenizer:
    checkpoint = write_encoder(folder / "checkpoint", random_encoder(kind))
    (checkpoint / "tokenizer_config.json").unlink(missing_ok=True)
    (checkpoint / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    convert_checkpoint(checkpoint, folder / "m.gguf", QuantType.F16)
    loaded = load_encoder_tokenizer(folder / "m.gguf")
    assert isinstance(loaded, EncoderTokenizer)
    return loaded


def check(tokenizer: EncoderTokenizer, file: Path) -> None:
    wrong = [
        (text, found, expected)
        for text, expected in zip(TEXTS, reference(file, TEXTS), strict=True)
        if (found := list(tokenizer.encode(text))) != expected
    ]
    assert not wrong, f"{len(wrong)} of {len(TEXTS)}, such as {wrong[0]!r}"


@pytest.mark.parametrize(("lowercase", "accents"), [(True, None), (False, True)])
def test_words_become_the_pieces_that_bert_was_trained_with(
    lowercase: bool, accents: bool | None, tmp_path: Path
) -> None:
    tokenizer = tokenizer_of(tmp_path, "bert", wordpiece_json(lowercase=lowercase, strip_accents=accents))
    check(tokenizer, tmp_path / "checkpoint" / "tokenizer.json")


@pytest.mark.parametrize("steps", UNIGRAM_STEPS)
def test_texts_become_the_pieces_that_xlm_roberta_was_trained_with(steps: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_of(tmp_path, "xlm-roberta", unigram_json(steps))
    check(tokenizer, tmp_path / "checkpoint" / "tokenizer.json")


def test_a_sentencepiece_model_and_the_tokenizer_made_of_it_are_the_same(tmp_path: Path) -> None:
    made = write_encoder(tmp_path / "model", random_encoder("xlm-roberta"))
    convert_checkpoint(made, tmp_path / "m.gguf", QuantType.F16)
    of_model = load_encoder_tokenizer(tmp_path / "m.gguf")
    of_json = tokenizer_of(tmp_path, "xlm-roberta", unigram_json("xlm-roberta"))
    assert [of_model.encode(text) for text in TEXTS[:3000]] == [of_json.encode(text) for text in TEXTS[:3000]]


@pytest.mark.parametrize(("kind", "special"), [("bert", "[SEP]"), ("bert", "[MASK]"), ("xlm-roberta", "</s>")])
def test_the_name_of_a_special_token_is_text(kind: str, special: str, tmp_path: Path) -> None:
    content = wordpiece_json() if kind == "bert" else unigram_json("bge-m3")
    tokenizer = tokenizer_of(tmp_path, kind, content)
    token = tokenizer.special_id(special)
    assert token not in tokenizer.encode(f"the {special} cat {special}")
    assert tokenizer.encode_framed("the")[0] == tokenizer.special_id("[CLS]" if kind == "bert" else "<s>")


def test_vocab_txt_counts_where_there_is_no_tokenizer_json(tmp_path: Path) -> None:
    checkpoint = write_encoder(tmp_path / "checkpoint", random_encoder("bert"))
    convert_checkpoint(checkpoint, tmp_path / "m.gguf", QuantType.F16)
    of_text = load_encoder_tokenizer(tmp_path / "m.gguf")
    of_json = tokenizer_of(tmp_path / "other", "bert", wordpiece_json())
    assert [of_text.encode(text) for text in TEXTS[:3000]] == [of_json.encode(text) for text in TEXTS[:3000]]
    assert [of_text.name(i) for i in range(5)] == list(BERT_SPECIALS)


@pytest.mark.parametrize(
    ("kind", "part", "value", "said"),
    [
        ("bert", "model", {"type": "BPE", "vocab": {}, "merges": []}, "not WordPiece"),
        ("bert", "normalizer", {"type": "Lowercase"}, "is 'BertNormalizer' in every BERT"),
        ("xlm-roberta", "pre_tokenizer", {"type": "Whitespace"}, "a step .*Whitespace.*, which is not converted"),
        ("xlm-roberta", "model", {"type": "WordPiece", "vocab": {}}, "not a unigram one"),
    ],
)
def test_tokenizers_of_other_kinds_are_refused(kind: str, part: str, value: object, said: str, tmp_path: Path) -> None:
    content = wordpiece_json() if kind == "bert" else unigram_json("bge-m3")
    with pytest.raises(VocabularyError, match=said):
        tokenizer_of(tmp_path, kind, {**content, part: value})
