"""The relatives of ChatGLM2 in llama.cpp: their tokens, their prompts, and where their answers end."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import jinja2
import numpy as np
import pytest
import sentencepiece
import tiktoken
from gguf import GGUFReader

from glmserve.chat.prompts.formats import prompt_format
from glmserve.chat.prompts.messages import Message, Role
from glmserve.chat.tokenizer.llama_tokenizer import load_tokenizer
from glmserve.convert.errors import CorruptFileError, VocabularyError
from glmserve.convert.gguf_format import FamilyName
from glmserve.convert.pipeline import ConversionReport, convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from glmserve.convert.vocab.glm4 import GLM4_SPECIALS
from tests.integration.test_convert_tokenizer import EDGES, mixed_strings
from tests.reference.numpy_chatglm2 import forward
from tests.support.byte_pairs import GLM4_TEXT, GLM4_WORDS, byte_pairs, model_file
from tests.support.chatglm2_checkpoint import Shape, make_weights, train_tokenizer, write_checkpoint
from tests.support.checkpoints import real_checkpoint
from tests.support.native import Tokenizer, loaded, logits_of

TURNS = [("system", "Be brief.\nAlways."), ("user", "你好"), ("assistant", "你好👋！"), ("user", " sop, 中")]
TINY = Shape(hidden=128, heads=1, groups=1, layers=1, ffn=32, vocab=560)


def converted(folder: Path, tokenizer: bytes, vocab: int, family: FamilyName | None = None) -> ConversionReport:
    shape = replace(TINY, vocab=vocab)
    write_checkpoint(folder, shape, make_weights(shape, 1), tokenizer=tokenizer, dtype="F16")
    return convert_checkpoint(folder, folder / "m.gguf", QuantType.F16, family=family)


@cache
def reader(path: Path) -> GGUFReader:
    return GGUFReader(path)


def text(path: Path, key: str) -> object:
    return reader(path).fields[key].contents()


def rendered(path: Path, turns: list[tuple[str, str]], **variables: object) -> str:
    template = jinja2.Environment(autoescape=False).from_string(str(text(path, "tokenizer.chat_template")))
    messages = [{"role": role, "content": content} for role, content in turns]
    return template.render(messages=messages, add_generation_prompt=True, **variables)


def served(path: Path, turns: list[tuple[str, str]]) -> list[int]:
    """The server's own prompt, with the tokenizer that it loads from the same file."""
    tokenizer = load_tokenizer(path)
    messages = [Message(Role(role), content) for role, content in turns]
    return list(prompt_format(str(text(path, "glmserve.prompt_format"))).encode(messages, tokenizer))


@pytest.fixture(scope="module")
def chatglm3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Tokenizer]]:
    """ChatGLM3's real tokenizer."""
    model = (real_checkpoint("chatglm3-6b", "tokenizer.model") / "tokenizer.model").read_bytes()
    folder = tmp_path_factory.mktemp("chatglm3")
    converted(folder, model, 65024, FamilyName.CHATGLM3)
    with loaded(folder / "m.gguf", vocab_only=True) as handle:
        yield folder / "m.gguf", Tokenizer(handle)


def test_a_chatglm3_answer_ends_at_the_end_the_users_turn_or_a_tools(chatglm3: tuple[Path, Tokenizer]) -> None:
    path, tokenizer = chatglm3
    assert tokenizer.ends() == {2, 64795, 64797}
    assert text(path, "glmserve.prompt_format") == "chatglm3"
    assert text(path, "glmserve.prompt_prefix_ids") == [64790, 64792]


def test_the_role_tokens_of_chatglm3_have_their_ids_and_never_come_from_text(chatglm3: tuple[Path, Tokenizer]) -> None:
    _, tokenizer = chatglm3
    roles = ["<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"]
    assert [tokenizer.encode(role, special=True) for role in roles] == [[64794], [64795], [64796], [64797]]
    for string in (*roles, "x<|user|>y", *EDGES, *list(mixed_strings(9))[:500]):
        assert max(tokenizer.encode(string), default=0) < 64789


def test_the_template_of_chatglm3_gives_the_authors_ids(chatglm3: tuple[Path, Tokenizer]) -> None:
    """[role] + encode(line break) + encode(content) for each message; then the break that starts an answer."""
    path, tokenizer = chatglm3
    folder = real_checkpoint("chatglm3-6b", "tokenizer.model")
    encode = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model")).encode
    roles = {"system": 64794, "user": 64795, "assistant": 64796, "observation": 64797}
    expected = [64790, 64792]
    for role, content in [*TURNS, ("observation", "42")]:
        expected += [roles[role], *encode("\n"), *encode(content)]
    assert tokenizer.encode(rendered(path, [*TURNS, ("tool", "42")]), special=True) == [
        *expected, 64796, *encode("\n"),
    ]  # fmt: skip
    assert tokenizer.encode(rendered(path, TURNS), special=True) == [*served(path, TURNS), *encode("\n")]
    assert tokenizer.encode(rendered(path, [*TURNS, ("tool", "42")], tools=[1]), special=True) == [*expected, 64796]


def test_codegeex2_starts_a_text_without_a_space(tmp_path: Path) -> None:
    lines = ["# language: Python", "# write a bubble sort", "def add(a, b): return a + b"]
    model = train_tokenizer(lines, 300, add_dummy_prefix=False)
    reference = sentencepiece.SentencePieceProcessor(model_proto=model)
    size = reference.get_piece_size()
    report = converted(tmp_path, model, size + 20)
    assert report.findings[0].startswith("family: codegeex2")
    assert text(tmp_path / "m.gguf", "glmserve.prompt_format") == "codegeex2"
    prompt = "# language: Python\n# write a sort\n"
    with loaded(tmp_path / "m.gguf", vocab_only=True) as handle:
        tokenizer = Tokenizer(handle)
        assert [s for s in (prompt, *EDGES) if tokenizer.encode(s) != reference.encode(s)] == []
        assert tokenizer.ends() == {2}
        ids = tokenizer.encode(rendered(tmp_path / "m.gguf", [("user", prompt)]), special=True)
        assert ids == [size + 1, size + 3, *reference.encode(prompt)]
        assert ids == served(tmp_path / "m.gguf", [("user", prompt)])


@pytest.fixture(scope="module")
def ranks() -> dict[bytes, int]:
    return byte_pairs(440)


@pytest.mark.parametrize("extra", [None, b"zqxjk"], ids=["reachable", "whole words"])
def test_glm4_gives_tiktokens_ids(ranks: dict[bytes, int], extra: bytes | None, tmp_path: Path) -> None:
    """With a token that no merges lead to as well: tiktoken finds it when it is a whole word."""
    ranks = dict(ranks) | ({extra: len(ranks)} if extra else {})
    report = converted(tmp_path, model_file(ranks), 560)
    assert report.findings[0].startswith("family: glm4")
    first = len(ranks)
    specials = {special: first + i for i, special in enumerate(GLM4_SPECIALS)}
    reference = tiktoken.Encoding("test", pat_str=GLM4_WORDS, mergeable_ranks=ranks, special_tokens=specials)
    path = tmp_path / "m.gguf"
    with loaded(path, vocab_only=True) as handle:
        tokenizer = Tokenizer(handle)
        texts = ["zqxjk zqxjk", "it's IT'S", *EDGES, *list(mixed_strings(11))[:1500], GLM4_TEXT]
        assert [s for s in texts if tokenizer.encode(s) != reference.encode_ordinary(s)] == []
        assert tokenizer.ends() == {first, first + 7, first + 9}
        prompt = rendered(path, TURNS, tools=[1])
        assert prompt.startswith("[gMASK]<sop><|system|>\nBe brief.")
        assert tokenizer.encode(prompt, special=True) == reference.encode(prompt, allowed_special="all")
        assert tokenizer.encode(prompt, special=True) == served(path, TURNS)
        assert tokenizer.encode(rendered(path, TURNS), special=True) == [*served(path, TURNS), *tokenizer.encode("\n")]
    prompt_ids = [specials["[gMASK]"], 300, 7, 8, 301]
    expected = forward(make_weights(TINY, 1), TINY, prompt_ids)
    assert np.abs(logits_of(path, [prompt_ids])[0] - expected).max() < 0.05, "weights are in float16"
    assert text(path, "glmserve.prompt_format") == "glm4"
    assert text(path, "glmserve.prompt_prefix_ids") == [first + 2, first + 4]
    assert text(path, "tokenizer.ggml.pre") == ("glm4" if extra else "chatglm-bpe")


def test_special_tokens_of_glm4_come_from_its_tokenizer_config(ranks: dict[bytes, int], tmp_path: Path) -> None:
    listed = {str(520 + i): {"content": special} for i, special in enumerate(GLM4_SPECIALS)}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": listed}))
    converted(tmp_path, model_file(ranks), 560)
    with loaded(tmp_path / "m.gguf", vocab_only=True) as handle:
        assert Tokenizer(handle).ends() == {520, 527, 529}
        assert Tokenizer(handle).encode("[gMASK]<sop>", special=True) == [522, 524]
    listed["7"] = {"content": "<|x|>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": listed}))
    with pytest.raises(CorruptFileError, match="added token 7 makes no sense"):
        converted(tmp_path, model_file(ranks), 560)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: {t: i for t, i in r.items() if i != 300}, "gaps"),
        (lambda r: {t: i for t, i in r.items() if i > 0} | {b"zzz": 0}, "lacks 1 of the 256"),
        (lambda r: r | {bytes([98, i, 97]): 440 + i for i in range(130)}, "padded_vocab_size"),
    ],
)
def test_a_byte_level_vocabulary_that_cannot_be_is_refused(
    ranks: dict[bytes, int],
    change: Callable[[dict[bytes, int]], dict[bytes, int]],
    message: str,
    tmp_path: Path,
) -> None:
    with pytest.raises(VocabularyError, match=message):
        converted(tmp_path, model_file(change(ranks)), 560)
