"""`glmserve inspect`: the report of a file as it is served, and the verdict on files that would answer nonsense."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from glmserve.cli.main import main
from glmserve.convert.gguf_format import FamilyName
from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from glmserve.engine.gguf.gguf_check import ModelFacts, RopeFacts, check_gguf, open_header
from glmserve.engine.gguf.soundness import (
    ParagraphScore,
    Severity,
    contradictions,
    end_findings,
    perplexity_findings,
    rotary_findings,
)
from tests.support.encoders import random_encoder, write_encoder
from tests.support.foreign_gguf import foreign_chatglm
from tests.support.gguf_file import Entry, GgufFile, read_gguf
from tests.support.llama_sources import template, vocabulary, with_template, with_weights

UINT32, FLOAT32 = 4, 6
PLAIN = RopeFacts(16, 10000.0, 1.0)


@pytest.fixture(scope="module")
def tiny(tiny_gguf: Path) -> GgufFile:
    return read_gguf(tiny_gguf)


def inspect(*args: object) -> Result:
    return CliRunner().invoke(main, ["inspect", *map(str, args)])


def problems(path: Path) -> list[str]:
    return [finding.text for finding in contradictions(open_header(path), check_gguf(path))]


def test_the_embedded_model_is_right_and_its_prompt_is_the_one_of_the_paper(tiny_gguf: Path) -> None:
    done = inspect(tiny_gguf, "--json")
    report = json.loads(done.output)
    assert (done.exit_code, report["right"], report["findings"]) == (0, True, [])
    assert (report["prompt_format"], report["weights"], report["layers"]) == ("chatglm2", "q8_0", 3)
    assert "".join(token["text"] for token in report["prompt"]["prompt"]) == report["prompt"]["text"]
    assert report["prompt"]["text"] == "[gMASK]<sop> [Round 1]\n\n问：你好\n\n答："
    assert [stop["text"] for stop in report["prompt"]["stops"]] == ["</s>"]
    assert [score["language"] for score in report["perplexity"]] == ["Chinese", "English"]
    assert report["parameters"] == 4807168


def test_random_weights_of_others_are_read_as_what_they_are(tmp_path: Path) -> None:
    file = tmp_path / "foreign.gguf"
    foreign_chatglm(file, FamilyName.CHATGLM3, "chatglm-spm")
    done = inspect(file)
    assert done.exit_code == 1
    assert "a GGUF file made by another program" in done.output
    assert "prompts as chatglm3" in done.output
    assert "note: prompt format inferred from architecture chatglm" in done.output
    assert "<|user|> (" in done.output
    assert "error: the perplexity of the Chinese paragraph is " in done.output
    assert done.output.endswith("Verdict: wrong\n")


def test_a_file_with_a_template_of_its_own_is_shown_as_that_renders_it(tmp_path: Path) -> None:
    file = with_weights(with_template(vocabulary("qwen2"), template("Qwen-Qwen2.5-7B-Instruct")), width=32)
    report = json.loads(inspect(file.write(tmp_path / "qwen.gguf"), "--no-run", "--json").output)
    assert (report["right"], report["prompt_format"]) == (True, "template")
    assert report["prompt"]["text"].endswith("<|im_end|>\n<|im_start|>user\n你好<|im_end|>\n<|im_start|>assistant\n")
    assert "<|im_end|>" in [stop["text"] for stop in report["prompt"]["stops"]]


def test_a_checkpoint_is_told_by_the_file_that_would_be_made_of_it(tmp_path: Path) -> None:
    foreign_chatglm(tmp_path / "out.gguf", FamilyName.CHATGLM2, "chatglm-spm")
    (tmp_path / "out.gguf").unlink()
    done = inspect(tmp_path, "--cache-dir", tmp_path / "cache")
    assert done.exit_code == 0, done.output
    assert "a checkpoint, which `serve` converts to q4_k_m when it is served first" in done.output
    assert "问：你好" in done.output
    assert not (tmp_path / "cache").exists()
    next(tmp_path.glob("*.safetensors")).write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    done = inspect(tmp_path, "--cache-dir", tmp_path / "cache")
    assert done.exit_code == 1
    assert "git lfs" in done.output.lower()


@pytest.mark.parametrize(
    ("kind", "pooling", "served"),
    [
        ("bert", "cls", ["an embedding model, 48 tokens", "256 numbers, cls pooling, scaled to length 1"]),
        ("xlm-roberta", "rank", ["a reranker, 48 tokens"]),
    ],
)
def test_an_encoder_is_told_as_a_folder_and_as_a_file_and_is_tried(
    kind: str, pooling: str, served: list[str], tmp_path: Path
) -> None:
    folder = write_encoder(tmp_path / "some", random_encoder(kind, pooling))
    file = tmp_path / "some.gguf"
    convert_checkpoint(folder, file, QuantType.F16)
    for model in (folder, file):
        done = inspect(model, "--cache-dir", tmp_path / "cache")
        assert (done.exit_code, [text for text in served if text not in done.output]) == (0, []), done.output
    report = json.loads(inspect(file, "--no-run", "--json").output)
    assert report["kind"] == ("rerank" if pooling == "rank" else "embedding")
    assert report["vectors"]["dimensions"] == (0 if pooling == "rank" else 256)
    content = bytearray(file.read_bytes())
    content[-4096:] = b"\xff" * 4096  # not numbers
    file.write_bytes(content)
    done = inspect(file)
    assert done.exit_code == 1
    assert "no numbers" in done.output or "not finite" in done.output


def test_a_vocabulary_alone_is_told_in_one_line(tmp_path: Path) -> None:
    done = inspect(vocabulary("qwen2").write(tmp_path / "vocab.gguf"))
    assert done.exit_code == 1
    assert "a vocabulary" in done.output
    assert [line for line in done.output.splitlines() if line.startswith("error:")] == [
        "error: it has no weights, and can be used for tests of a tokenizer only; get the file of the model"
    ]


def test_an_end_token_that_is_ordinary_text_is_wrong(tiny: GgufFile, tmp_path: Path) -> None:
    done = inspect(tiny.put(Entry.scalar("tokenizer.ggml.eos_token_id", UINT32, 300)).write(tmp_path / "x.gguf"))
    assert done.exit_code == 1
    assert "(300) ends an answer and is ordinary text" in done.output


def test_outputs_that_are_no_numbers_are_wrong_in_the_embedded_model_too(tiny: GgufFile, tmp_path: Path) -> None:
    file = replace(tiny, data=tiny.data[: -(2**20)] + b"\xff" * 2**20).write(tmp_path / "x.gguf")
    done = inspect(file)
    assert done.exit_code == 1
    assert "the perplexity of the Chinese paragraph is nan" in done.output


def test_the_reason_of_llama_cpp_is_in_the_report(tiny: GgufFile, tmp_path: Path) -> None:
    file = tiny.put(Entry.scalar("chatglm.attention.head_count_kv", UINT32, 1)).write(tmp_path / "x.gguf")
    report = json.loads(inspect(file, "--json").output)
    (fault,) = (one["text"] for one in report["findings"])
    assert fault.startswith("llama.cpp does not load the file: check_tensor_dims: tensor 'blk.0.attn_qkv.weight'")


def test_what_a_file_says_does_nothing_in_a_terminal(tmp_path: Path) -> None:
    text = "\x1b]0;title\x07\x1b[2J{% for one in messages %}{{ one.content }}{% endfor %}"
    file = with_weights(with_template(vocabulary("qwen2"), text), width=32)
    done = inspect(file.write(tmp_path / "x.gguf"), "--no-run")
    assert "\\x1b]0;title\\x07\\x1b[2J你好" in done.output
    assert "\x1b" not in done.output


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"<!DOCTYPE html><html>", "is a web page"), (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
     (b"GGUF", "cut off")],
)  # fmt: skip
def test_what_is_no_model_is_said(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(content)
    done = inspect(tmp_path / "x.gguf")
    assert (done.exit_code, told in done.output) == (1, True), done.output
    missing = inspect(tmp_path / "none.gguf")
    assert (missing.exit_code, "no such file" in missing.output) == (2, True)


def test_a_32k_model_with_the_positions_of_the_other_is_wrong(tiny: GgufFile, tmp_path: Path) -> None:
    path = tiny.put(Entry.text("general.name", b"chatglm2-6b-32k")).write(tmp_path / "some.gguf")
    done = inspect(path, "--no-run")
    assert done.exit_code == 1
    assert "its rotary positions are those of the model for 8192 tokens" in done.output


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (Entry.scalar("chatglm.block_count", UINT32, 4), "block_count is 4, and layer 3 has no weights"),
        (Entry.scalar("chatglm.block_count", UINT32, 2), "block_count is 2, and there are weights of layer 2"),
        (Entry.scalar("chatglm.feed_forward_length", UINT32, 7), "feed_forward_length is 7"),
        (Entry.scalar("tokenizer.ggml.eos_token_id", UINT32, 10**6), "eos_token_id is 1000000, and the vocabulary"),
        (Entry.scalar("general.file_type", UINT32, 15), "general.file_type says q4_k_m, and no weights have it"),
    ],
)
def test_metadata_that_disagree_with_the_tensors_are_told(
    entry: Entry, told: str, tiny: GgufFile, tmp_path: Path
) -> None:
    (problem,) = problems(tiny.put(entry).write(tmp_path / "x.gguf"))
    assert problem.startswith((told, f"tokenizer.ggml.{told}"))


def test_a_vocabulary_of_another_length_is_told(tiny: GgufFile, tmp_path: Path, tiny_gguf: Path) -> None:
    tokens = tiny.find("tokenizer.ggml.tokens").items()[:-1]
    path = tiny.put(Entry.array("tokenizer.ggml.tokens", 8, tokens)).write(tmp_path / "x.gguf")
    assert any("token_embd.weight" in problem for problem in problems(path))
    assert problems(tiny_gguf) == []


def test_a_format_whose_tokens_are_missing_is_wrong(tiny_gguf: Path) -> None:
    done = inspect(tiny_gguf, "--no-run", "--prompt-format", "chatglm3")
    assert done.exit_code == 1
    assert "has no token" in done.output


def facts(path: Path, rope: RopeFacts) -> ModelFacts:
    return replace(check_gguf(path), rope=rope)


@pytest.mark.parametrize(
    ("form", "name", "context", "rope", "wrong"),
    [
        ("chatglm2", "chatglm2-6b", 8192, PLAIN, False),
        ("chatglm2", "chatglm2-6b", 8192, RopeFacts(16, 500000.0, 1.0), True),
        ("chatglm2", "mine", 0, RopeFacts(16, 500000.0, 1.0), False),
        ("chatglm2", "chatglm2-6b-32k", 32768, RopeFacts(16, 160000.0, 1.0), True),
        ("chatglm2", "chatglm2-6b-32k", 32768, RopeFacts(16, 10000.0, 1 / 16), False),
        ("chatglm3", "chatglm3-6b-32k", 32768, RopeFacts(16, 500000.0, 1.0), False),
        ("chatglm3", "chatglm3-6b-32k", 32768, RopeFacts(16, 10000.0, 1 / 50), True),
        ("chatglm3", "our-chatglm3-128K", 0, PLAIN, True),
        ("glm4", "glm-4-9b-chat", 131072, PLAIN, True),
        ("glm4", "glm-4-9b-chat", 131072, RopeFacts(16, 5000000.0, 1.0), False),
        ("chatglm2", "model-132k5", 0, PLAIN, False),
    ],
)
def test_positions_are_those_of_the_model(
    form: str, name: str, context: int, rope: RopeFacts, *, wrong: bool, tiny_gguf: Path
) -> None:
    assert bool(rotary_findings(facts(tiny_gguf, rope), form, (name,), context)) is wrong


def test_answers_have_to_end() -> None:
    assert [f.severity for f in end_findings([], ["</s>"])] == [Severity.ERROR]
    assert end_findings(["</s>"], ["</s>", "<eos>"]) == ()
    (one,) = end_findings(["<|endoftext|>", "<|user|>"], ["<|endoftext|>", "<|user|>", "<|observation|>"])
    assert one.text == "<|observation|> should end an answer and is no special token of the vocabulary"


@pytest.mark.parametrize(
    ("perplexity", "parameters", "wrong"),
    [(12.0, 6 * 10**9, False), (60_000.0, 6 * 10**9, True), (900.0, 10**8, False), (float("nan"), 10**8, True),
     (float("inf"), 10**10, True), (70_000.0, 10**8, True)],
)  # fmt: skip
def test_a_perplexity_far_from_sane_is_told(perplexity: float, parameters: int, wrong: bool) -> None:
    assert bool(perplexity_findings([ParagraphScore("Chinese", perplexity)], 65024, parameters)) is wrong
