"""The prompt format of files that others made, from their headers."""

import pytest

from glmserve.engine.gguf.gguf_header import Metadata, Scalar
from glmserve.engine.gguf.prompt_format import infer_prompt_format

ROLES = (b"<|system|>", b"<|user|>", b"<|assistant|>", b"<|observation|>")
GLM = (b"[gMASK]", b"sop")
BAICHUAN = tuple(b"<reserved_%d>" % (i - 90) for i in range(300))
BAICHUAN2 = tuple(b"<reserved_%d>" % (i - 89) for i in range(300))
GLM4_TEMPLATE = "[gMASK]<sop>{% for item in messages %}<|{{ item['role'] }}|>\n{{ item['content'] }}{% endfor %}"
CHATML = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>{% endfor %}"
GLM_EDGE = "{% for item in messages %}<|{{ item['role'] }}|>\n{{ item['content'] }}{% endfor %}<|assistant|>"


def header(architecture: str, model: str, pre: str, pieces: tuple[bytes, ...], **others: str) -> Metadata:
    keys: dict[str, Scalar | tuple[bytes, ...]] = {
        "general.architecture": architecture,
        "tokenizer.ggml.model": model,
        "tokenizer.ggml.tokens": pieces,
    }
    if pre:
        keys["tokenizer.ggml.pre"] = pre
    names = {"name": "general.name", "template": "tokenizer.chat_template", "said": "glmserve.prompt_format"}
    return keys | {names[name]: value for name, value in others.items()}


@pytest.mark.parametrize(
    ("metadata", "name"),
    [
        (header("chatglm", "llama", "chatglm-spm", GLM + ROLES), "chatglm3"),
        (header("chatglm", "llama", "", GLM + ROLES), "chatglm3"),
        (header("chatglm", "llama", "chatglm-spm", GLM + ROLES, template="{{ '[gMASK]sop' }}"), "chatglm3"),
        (header("chatglm", "gpt2", "chatglm-bpe", GLM + ROLES), "glm4"),
        (header("chatglm", "gpt2", "glm4", GLM + ROLES, template=GLM4_TEMPLATE), "glm4"),
        (header("chatglm", "gpt2", "chatglm-bpe", GLM + ROLES, name="CodeGeeX4 All 9B"), "glm4"),
        (header("glm4", "gpt2", "glm4", GLM + ROLES), "glm4-0414"),
        (header("chatglm", "llama", "chatglm-spm", GLM, name="ChatGLM2 6B"), "chatglm2"),
        (header("chatglm", "llama", "", GLM, name="chatglm2-6b-32k"), "chatglm2"),
        (header("chatglm", "llama", "", GLM, template="{{ '[Round 1]\n\n问：' }}"), "chatglm2"),
        (header("chatglm", "llama", "", GLM, name="codegeex2-6b"), "codegeex2"),
        (header("baichuan", "llama", "default", BAICHUAN), "baichuan"),
        (header("baichuan", "llama", "default", BAICHUAN2), "baichuan2"),
        (header("chatglm", "llama", "", GLM, said="codegeex2"), "codegeex2"),
        (header("chatglm", "gpt2", "chatglm-bpe", GLM + ROLES, said="mine"), "mine"),
    ],
)
def test_a_file_of_our_families_shows_its_format(metadata: Metadata, name: str) -> None:
    found = infer_prompt_format(metadata)
    assert (found.name, found.candidates) == (name, ())
    assert bool(found.reason) is ("glmserve.prompt_format" not in metadata)


@pytest.mark.parametrize(
    ("metadata", "candidates", "reason"),
    [
        (header("chatglm", "llama", "", GLM), ("chatglm2", "codegeex2"), "several families"),
        (header("baichuan", "llama", "", BAICHUAN[:196]), (), "no family"),
        (header("chatglm", "gpt2", "qwen2", GLM + ROLES), (), "'qwen2'"),
        (header("chatglm", "gpt2", "glm4", GLM), (), "no family"),
        (header("chatglm", "llama", "llama3", GLM + ROLES), (), "no family"),
        (header("llama", "llama", "", GLM + ROLES), (), "no family"),
        ({}, (), "no family"),
        ({"tokenizer.ggml.tokens": 3, "general.architecture": "glm4"}, (), "no family"),
    ],
)
def test_a_file_that_may_be_several_or_none_stays_undecided(
    metadata: Metadata, candidates: tuple[str, ...], reason: str
) -> None:
    found = infer_prompt_format(metadata)
    assert (found.name, found.candidates) == ("", candidates)
    assert reason in found.reason


@pytest.mark.parametrize(
    "metadata",
    [
        header("chatglm", "llama", "", GLM, name="ours", template=CHATML),
        header("chatglm", "gpt2", "chatglm-bpe", GLM + ROLES, template=GLM_EDGE),
        header("glm4", "gpt2", "glm4", GLM + ROLES, template=CHATML),
        header("baichuan", "llama", "", BAICHUAN, template=CHATML),
        header("qwen2", "gpt2", "qwen2", GLM, template=CHATML),
    ],
)
def test_a_template_that_is_no_familys_is_the_format_itself(metadata: Metadata) -> None:
    found = infer_prompt_format(metadata)
    assert (found.name, found.candidates, found.reason) == ("template", (), "its own chat template")


def test_a_baichuan2_that_was_converted_before_it_had_a_format_of_its_own_gets_it() -> None:
    assert infer_prompt_format(header("baichuan", "llama", "", BAICHUAN2, said="baichuan")).name == "baichuan2"
    assert infer_prompt_format(header("baichuan", "llama", "", BAICHUAN, said="baichuan")).name == "baichuan"


def test_the_reason_names_what_was_seen() -> None:
    found = infer_prompt_format(header("chatglm", "gpt2", "glm4", GLM + ROLES))
    assert found.reason == (
        "architecture chatglm, pre-tokenizer glm4, the special tokens <|assistant|> <|observation|> <|system|> <|user|>"
    )
