"""Which ChatGLM it is, and what rope_ratio means, from what the folder holds."""

import json
from pathlib import Path

import pytest

from glmserve.convert.errors import UnsupportedModelError
from glmserve.convert.families.detect import detect
from glmserve.convert.gguf_format import FamilyName
from tests.support.chatglm2_checkpoint import SMALL, make_config, train_tokenizer
from tests.support.checkpoints import real_checkpoint

CHATGLM3_CODE = 'role_special_tokens = ["<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"]'
CHATGLM2_CODE = 'prompt += "[Round {}]\\n\\n问：{}\\n\\n答：{}\\n\\n"'
DIVIDING_CODE = "seq_idx = torch.arange(seq_len, dtype=dtype, device=device) / self.rope_ratio"
MULTIPLYING_CODE = "base = base * self.rope_ratio"


def folder_with(tmp_path: Path, files: dict[str, str] | None = None, **changes: object) -> Path:
    unnamed = make_config(SMALL) | {"_name_or_path": ""}
    (tmp_path / "config.json").write_text(json.dumps(unnamed | changes))
    for name, text in (files or {}).items():
        (tmp_path / name).write_text(text)
    return tmp_path


def roles_config() -> str:
    return json.dumps({"added_tokens_decoder": {"64795": {"content": "<|user|>"}}})


@pytest.mark.parametrize("name", ["chatglm2-6b", "chatglm3-6b"])
def test_the_real_folders_are_told_apart_by_their_names(name: str) -> None:
    family = detect(real_checkpoint(name, "config.json"))
    assert family.name.value == name.removesuffix("-6b")
    assert family.findings == (f"family: {family.name.value}, because config.json names THUDM/{name}",)


@pytest.mark.parametrize(
    ("files", "changes", "expected", "because"),
    [
        ({}, {"_name_or_path": "THUDM/codegeex2-6b"}, "codegeex2", "config.json names"),
        ({"tokenizer_config.json": '{"name_or_path": "x/chatglm3-6b"}'}, {}, "chatglm3", "tokenizer_config.json names"),
        ({"tokenizer_config.json": roles_config()}, {"_name_or_path": "me/chatglm2-like"}, "chatglm3", "role tokens"),
        ({"tokenization_chatglm.py": CHATGLM3_CODE}, {"_name_or_path": "me/chatglm2-like"}, "chatglm3", "role tokens"),
        ({"tokenization_chatglm.py": CHATGLM2_CODE}, {"seq_length": 8192}, "chatglm2", "rounds"),
        ({"tokenization_chatglm.py": CHATGLM2_CODE}, {"_name_or_path": "codegeex2-6b"}, "codegeex2", "names"),
        ({}, {"seq_length": 8192}, "chatglm3", "seq_length is 8192"),
        ({}, {}, "chatglm2", "nothing in the folder says otherwise"),
        ({"tokenizer_config.json": "{"}, {}, "chatglm2", "nothing"),
    ],
)  # fmt: skip
def test_what_the_folder_holds_decides_before_what_it_is_called(
    tmp_path: Path, files: dict[str, str], changes: dict[str, object], expected: str, because: str
) -> None:
    family = detect(folder_with(tmp_path, files, **changes))
    assert family.name.value == expected
    assert because in family.findings[0]


def test_the_name_of_the_folder_is_better_than_nothing(tmp_path: Path) -> None:
    (tmp_path / "my-ChatGLM3-tuned").mkdir()
    assert detect(folder_with(tmp_path / "my-ChatGLM3-tuned")).name is FamilyName.CHATGLM3


def test_a_tokenizer_without_the_leading_space_is_codegeex2s(tmp_path: Path) -> None:
    model = train_tokenizer(["# language: Python", "def add(a, b):"], 300, add_dummy_prefix=False)
    (tmp_path / "tokenizer.model").write_bytes(model)
    assert detect(folder_with(tmp_path, _name_or_path="me/chatglm3")).name is FamilyName.CODEGEEX2


def test_a_byte_level_tokenizer_is_glm4s(tmp_path: Path) -> None:
    family = detect(folder_with(tmp_path, {"tokenizer.model": "IQ== 0\nIg== 1\n"}, _name_or_path="me/chatglm3"))
    assert family.name is FamilyName.GLM4


def test_the_user_knows_best(tmp_path: Path) -> None:
    family = detect(folder_with(tmp_path, _name_or_path="THUDM/chatglm2-6b"), FamilyName.CHATGLM3)
    assert (family.name, family.findings) == (
        FamilyName.CHATGLM3,
        ("family: chatglm3, because that was asked for",),
    )
    with pytest.raises(UnsupportedModelError, match="this is a ChatGLM, which cannot be converted as baichuan2"):
        detect(tmp_path, FamilyName.BAICHUAN2)


@pytest.mark.parametrize(
    ("files", "changes", "base", "factor"),
    [
        ({}, {"_name_or_path": "THUDM/chatglm2-6b-32k", "rope_ratio": 16}, 10000.0, 16.0),
        ({}, {"_name_or_path": "THUDM/chatglm3-6b-32k", "rope_ratio": 50}, 500000.0, None),
        ({"tokenizer.model": "IQ== 0\n"}, {"rope_ratio": 500}, 5000000.0, None),
        ({"modeling_chatglm.py": DIVIDING_CODE}, {"rope_ratio": 4}, 10000.0, 4.0),
        ({"modeling_chatglm.py": MULTIPLYING_CODE}, {"rope_ratio": 4}, 40000.0, None),
        # What the code computes counts for more than what the model is called.
        ({"modeling_chatglm.py": MULTIPLYING_CODE}, {"_name_or_path": "chatglm2-x", "rope_ratio": 4}, 40000.0, None),
        ({"modeling_chatglm.py": "rope_ratio"}, {"_name_or_path": "chatglm2-x", "rope_ratio": 4}, 10000.0, 4.0),
        ({}, {"rope_ratio": 1}, 10000.0, None),
    ],
)
def test_positions_are_divided_or_the_base_multiplied(
    tmp_path: Path, files: dict[str, str], changes: dict[str, object], base: float, factor: float | None
) -> None:
    family = detect(folder_with(tmp_path, files, **changes))
    keys = family.hyperparameters()
    assert keys["chatglm.rope.freq_base"] == base
    assert keys.get("chatglm.rope.scaling.factor") == factor
    assert len(family.findings) == (1 if changes["rope_ratio"] == 1 else 2)
    assert family.findings[-1].startswith("rope: ") or changes["rope_ratio"] == 1


def test_a_ratio_of_an_unknown_model_is_not_guessed(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, rope_ratio=50)
    with pytest.raises(UnsupportedModelError, match=r"rope_ratio is 50, .* with --family"):
        detect(folder)
    assert detect(folder, FamilyName.CHATGLM3).hyperparameters()["chatglm.rope.freq_base"] == 500000.0
