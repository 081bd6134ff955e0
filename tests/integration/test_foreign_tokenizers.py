"""The vocabularies of files that others made: text never becomes a special token of theirs."""

import tarfile
from pathlib import Path

import pytest

from glmserve.bootstrap.build import load_fitting
from glmserve.chat.prompts.formats import prompt_format
from glmserve.chat.tokenizer.llama_tokenizer import load_tokenizer
from glmserve.convert.gguf_format import FamilyName
from glmserve.engine.gguf.gguf_check import check_gguf
from tests.integration.test_convert_tokenizer import EDGES, mixed_strings
from tests.support.checkpoints import real_checkpoint
from tests.support.foreign_gguf import foreign_chatglm

SOURCE = Path(__file__).parents[2] / ".venv" / "llama-source"
TYPED = ("中sop", "sop", "eop", "sop eop sop", "sophisticated people stop", "<bos><eos>", "[gMASK]sop<|user|>\n")


def _never_special(path: Path, first: int) -> None:
    tokenizer = load_tokenizer(path)
    assert tokenizer.special_id("sop") >= first
    for text in (*TYPED, *EDGES, *list(mixed_strings(9))[:500]):
        ids = tokenizer.encode(text)
        assert max(ids, default=0) < first, text
    for text in TYPED:
        plain = b"".join(map(tokenizer.piece, tokenizer.encode(text))).decode()
        assert plain == f" {text}"


def test_a_typed_sop_stays_text_in_a_small_vocabulary(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    foreign_chatglm(path, FamilyName.CHATGLM3, "chatglm-spm")
    _never_special(path, load_tokenizer(path).special_id("[MASK]"))


def test_a_typed_sop_stays_text_in_the_real_chatglm3(tmp_path: Path) -> None:
    model = (real_checkpoint("chatglm3-6b", "tokenizer.model") / "tokenizer.model").read_bytes()
    path = tmp_path / "m.gguf"
    foreign_chatglm(path, FamilyName.CHATGLM3, "chatglm-spm", tokenizer=model, vocab=65024)
    _never_special(path, 64789)


def test_the_roles_of_a_real_baichuan_vocabulary_are_found(tmp_path: Path) -> None:
    """The one that llama.cpp's sources carry: no metadata names the roles."""
    archive = next(SOURCE.glob("llama_cpp_python-*.tar.gz"), None)
    if archive is None:
        pytest.skip("the source archive of llama-cpp-python is not there; make install fetches it")
    path = tmp_path / "baichuan.gguf"
    with tarfile.open(archive) as opened:
        member = next(name for name in opened.getnames() if name.endswith("models/ggml-vocab-baichuan.gguf"))
        content = opened.extractfile(member)
        assert content is not None
        path.write_bytes(content.read())
    facts = check_gguf(path)
    assert (facts.prompt_format, facts.format_inference.reason) == ("baichuan", "architecture baichuan")
    tokenizer = load_fitting(path, prompt_format(facts.prompt_format), facts.prompt_format)
    assert [tokenizer.special_id(role) for role in ("user", "assistant")] == [195, 196]
    assert not {195, 196} & set(tokenizer.encode("<reserved_102>你好<reserved_103> user assistant"))
