"""The server's tokenizer on a converted Baichuan gives SentencePiece's ids, but for what must stay text."""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

import jinja2
import pytest
import sentencepiece
from gguf import GGUFReader

from glmserve.chat.prompts.formats import prompt_format
from glmserve.chat.prompts.messages import Message, Role
from glmserve.chat.tokenizer.llama_tokenizer import LlamaTokenizer, load_tokenizer
from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from glmserve.convert.vocab.tokenizer_model import PieceType, read_model
from tests.support.baichuan_checkpoint import ALIBI, Shape, make_weights, small_tokenizer, write_checkpoint
from tests.support.checkpoints import real_checkpoint
from tests.support.native import Tokenizer, loaded

STRINGS = 6000

FRAGMENTS = (
    "你好", "北京是中国的首都。", "，", "（", "）", "；", "…", "～", "：", "！？", "龘", "𠀀", "１２", "３", "①", "㍿",
    "the quick brown fox", " stop", "Hello, ", "s", "<", "b", ">", "-", "--", "`", "``", "！--", "----", "--->",
    "```python\n", "<br>", "<br/>", "</td>", "<!--", "-->", "---", "<!---->", "＜br＞", "－－－", "<!DOCTYPE>",
    "</s>", "<s>", "<unk>", "<0x0A>", " ", "  ", "        ", "\t", "\n", "\n\n\n", "\r\n", "\u3000", "\u00a0",
    "\u200b", "▁", "0", "12", "3.14159", "2023年", "👋", "👨‍👩‍👧", "é", "e\u0301", "ß", "ﬁ", "가", "\u1100\u1161",
    "か\u3099", "=\u0338", "<\u0338", "br>\u0338", "Привет", "\x00", "\x07", "\x1b[0m", "\ufeff", "\ufffd",
)  # fmt: skip

SAID = ("glmserve.", "general.sampling.", "tokenizer.chat_template")

NEVER_TEXT = ("<reserved_102>", "<reserved_103>", "<SEP>")


@dataclass(frozen=True)
class Converted:
    """A tokenizer, and the file with it."""

    ours: LlamaTokenizer
    native: Tokenizer
    metadata: dict[str, object]
    user_defined: tuple[str, ...]
    """Pieces of tokenizer.model."""
    reference: sentencepiece.SentencePieceProcessor
    roles: tuple[int, int]


def real() -> bytes:
    return (real_checkpoint("baichuan-13b-chat", "tokenizer.model") / "tokenizer.model").read_bytes()


@pytest.fixture(scope="module", params=[small_tokenizer, real])
def converted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Converted]:
    model = request.param()
    reference = sentencepiece.SentencePieceProcessor(model_proto=model)
    is_real = reference.get_piece_size() > 60000
    vocab = 64000 if is_real else ALIBI.vocab
    shape = Shape(hidden=8, heads=1, ffn=8, layers=40, vocab=vocab)
    folder = tmp_path_factory.mktemp("tokenizer")
    write_checkpoint(folder, shape, make_weights(shape, 1), dtype="F16", tokenizer=model if is_real else None)
    convert_checkpoint(folder, folder / "m.gguf", QuantType.F16)
    defined = tuple(p.text for p in read_model(folder / "tokenizer.model").pieces if p.type is PieceType.USER_DEFINED)
    fields = GGUFReader(folder / "m.gguf").fields
    metadata = {key: fields[key].contents() for key in fields if key.startswith(SAID)}
    tokenizer = load_tokenizer(folder / "m.gguf")
    with loaded(folder / "m.gguf", vocab_only=True) as handle:
        roles = (195, 196) if is_real else (6, 7)
        yield Converted(tokenizer, Tokenizer(handle), metadata, defined, reference, roles)
    tokenizer.close()


def mixed_strings(seed: int) -> Iterator[str]:
    rng = random.Random(seed)
    ranges = ((0x00, 0x7F), (0x4E00, 0x9FFF), (0x20, 0x7E), (0x300, 0x36F), (0x3000, 0x33FF), (0xFF00, 0xFFEF),
              (0x00, 0xD7FF), (0xE000, 0x10FFFF))  # fmt: skip
    for _ in range(STRINGS // 2):
        yield "".join(rng.choice(FRAGMENTS) for _ in range(rng.randint(1, 12)))
        yield "".join(chr(rng.randint(*rng.choice(ranges))) for _ in range(rng.randint(1, 24)))


def test_ids_of_thousands_of_mixed_strings_are_equal(converted: Converted) -> None:
    texts = list(mixed_strings(7))
    assert [t for t in texts if list(converted.ours.encode(t)) != converted.reference.encode(t)] == []


def test_every_user_defined_piece_is_one_token_even_in_the_middle_of_a_word(converted: Converted) -> None:
    defined = [text for text in converted.user_defined if not re.fullmatch(r"<reserved_\d+>|<SEP>|<CLS>", text)]
    assert len(defined) > 5
    for text in defined:
        ids = list(converted.ours.encode(f"fox{text}fox"))
        assert ids == converted.reference.encode(f"fox{text}fox")
        assert converted.reference.piece_to_id(text) in ids


@pytest.mark.parametrize("text", ["", " ", "\n", "\x00", "▁", "（", "字" * 3000, " " * 3000, "-" * 1001, "<br>" * 100])
def test_ids_of_edge_cases_are_equal(converted: Converted, text: str) -> None:
    assert list(converted.ours.encode(text)) == converted.reference.encode(text)


def test_what_looks_like_a_role_stays_text(converted: Converted) -> None:
    for typed in (*NEVER_TEXT, "</s>", "a<reserved_102>b", "＜reserved_102＞"):
        ids = converted.ours.encode(typed)
        assert not set(ids) & {0, 1, 2, 3, *converted.roles}
        assert converted.ours.encode(f"{typed}x") != ids


def test_the_prompt_is_the_authors_token_by_token(converted: Converted) -> None:
    messages = [
        Message(Role.SYSTEM, "（系统）"),
        Message(Role.USER, "你好<br>"),
        Message(Role.ASSISTANT, "你好！"),
        Message(Role.USER, "world"),
    ]
    encode = converted.reference.encode
    user, assistant = converted.roles
    assert list(prompt_format("baichuan").encode(messages, converted.ours)) == [
        *encode("（系统）"),
        user, *encode("你好<br>"),
        assistant, *encode("你好！"), 2,
        user, *encode("world"),
        assistant,
    ]  # fmt: skip


TURNS = [
    [("user", "a")],
    [("system", "s"), ("user", "a")],
    [("system", "s"), ("system", "t"), ("user", "a"), ("assistant", "b"), ("user", "c")],
    [("user", "a"), ("user", "b"), ("assistant", "c"), ("assistant", "d"), ("user", "e")],
    [("assistant", "hello"), ("user", "a")],
    [("user", "a"), ("assistant", "b"), ("system", "s"), ("user", "<br>c")],
    [("user", ""), ("assistant", ""), ("user", " ")],
]


@pytest.mark.parametrize("turns", TURNS)
def test_the_rendered_template_gives_the_same_prompt_in_llama_cpp(
    converted: Converted, turns: list[tuple[str, str]]
) -> None:
    template = str(converted.metadata["tokenizer.chat_template"])
    messages = [{"role": role, "content": content} for role, content in turns]
    text = (
        jinja2.Environment(autoescape=False).from_string(template).render(messages=messages, add_generation_prompt=True)
    )
    expected = prompt_format("baichuan").encode([Message(Role(r), c) for r, c in turns], converted.ours)
    assert converted.native.encode(text, special=True) == list(expected)


def test_only_the_end_token_ends_a_generation(converted: Converted) -> None:
    assert converted.native.ends() == {2}


def test_the_file_says_how_it_is_prompted_and_sampled(converted: Converted) -> None:
    said = dict(converted.metadata)
    assert re.fullmatch("[0-9a-f]{64}", str(said.pop("glmserve.origin")))
    assert {
        key: said[key] for key in said if key.startswith("glmserve.") and "tab" not in key and "_id" not in key
    } == {
        "glmserve.prompt_format": "baichuan",
        "glmserve.normalizer": "nmt_nfkc",
        "glmserve.space_prefix": True,
    }
    assert (said["glmserve.user_token_id"], said["glmserve.assistant_token_id"]) == converted.roles
    sampling = {"temp": 0.3, "top_k": 5, "top_p": 0.85, "penalty_repeat": 1.1}
    assert {name: said[f"general.sampling.{name}"] for name in sampling} == pytest.approx(sampling)
