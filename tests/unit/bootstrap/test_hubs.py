"""Which files of a repository are downloaded, and what they are converted to needs of the disk."""

from pathlib import Path

import pytest

from glmserve.bootstrap.hubs.remote import HubError, RemoteFile, check_space, checked_hash, needed_files
from glmserve.chat.prompts.formats import prompt_format
from glmserve.cli.options import UsageProblem
from glmserve.cli.pull import expected_bytes, repository_of
from glmserve.config.values import Hub
from glmserve.convert.quantize.recipes import QuantType
from glmserve.engine.gguf.prompt_format import TEMPLATE
from glmserve.models.catalog import CATALOG, CatalogEntry, find

CHATGLM2 = (
    ".gitattributes", "MODEL_LICENSE", "README.md", "config.json", "configuration_chatglm.py", "modeling_chatglm.py",
    "pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin", "pytorch_model.bin.index.json",
    "quantization.py", "tokenization_chatglm.py", "tokenizer.model", "tokenizer_config.json",
)  # fmt: skip
SAFE = ("model-00001-of-00001.safetensors", "model.safetensors.index.json")


def needed(*names: str) -> set[str]:
    return {file.name for file in needed_files("a/b", [RemoteFile(name, 1) for name in names])}


SMALL = {"config.json", "modeling_chatglm.py", "tokenization_chatglm.py", "tokenizer.model", "tokenizer_config.json"}


def test_shards_of_the_one_kind_there_is_come_with_their_index() -> None:
    assert needed(*CHATGLM2) == SMALL | {name for name in CHATGLM2 if name.startswith("pytorch_model")}


def test_safetensors_come_alone_where_there_are_both() -> None:
    assert needed(*CHATGLM2, *SAFE) == SMALL | set(SAFE)


def test_an_index_without_its_safetensors_does_not_count() -> None:
    assert "pytorch_model.bin" in needed("model.safetensors.index.json", "pytorch_model.bin")


def test_an_adapter_is_its_configuration_and_weights() -> None:
    names = ("adapter_config.json", "adapter_model.safetensors", "optimizer.pt", "training_args.bin")
    assert needed(*names) == {"adapter_config.json", "adapter_model.safetensors"}


def test_what_lies_in_folders_is_left_there() -> None:
    inner = ("onnx/model.safetensors", "runs/config.json", "original/pytorch_model.bin")
    assert needed(*inner, "config.json", "model.safetensors") == {"config.json", "model.safetensors"}


def test_a_repository_without_weights_is_no_checkpoint() -> None:
    with pytest.raises(HubError, match="a/b has no weights"):
        needed("config.json", "onnx/model.safetensors")


@pytest.mark.parametrize("given", ["", "../../x", "0" * 63, "g" * 64, "sha256:" + "0" * 64])
def test_what_is_no_hash_is_not_taken_for_one(given: str) -> None:
    """It becomes the name of a file."""
    assert checked_hash(given) == ""
    assert checked_hash("AB" * 32) == "ab" * 32


def test_there_is_room_or_it_is_reported_how_much_is_missing(tmp_path: Path) -> None:
    check_space(tmp_path, 1, tmp_path / "not" / "there" / "yet", 1)
    with pytest.raises(HubError, match=r"^2000000000\.0 GB are needed in .* are free; make room"):
        check_space(tmp_path, 10**18, tmp_path, 10**18)


@pytest.mark.parametrize(
    ("kind", "gigabytes"),
    [("f16", 12.5), ("q8_0", 6.6), ("q6_k", 5.5), ("q5_k_m", 4.7), ("q4_k_m", 4.1), ("q4_0", 3.6), ("q2_k", 2.7)],
)
def test_more_room_is_requested_than_is_taken_but_not_by_much(kind: str, gigabytes: float) -> None:
    assert gigabytes <= expected_bytes(12_487_168_064, QuantType(kind)) / 1e9 <= 1.25 * gigabytes


@pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.name)
def test_every_known_model_is_found_by_each_of_its_names_and_can_be_prompted(entry: CatalogEntry) -> None:
    for name in filter(
        None, (entry.name, entry.repository, entry.former, entry.modelscope, entry.repository.rpartition("/")[2])
    ):
        assert find(name) is entry
    if entry.prompt_format not in ("", TEMPLATE):  # an encoder has none
        prompt_format(entry.prompt_format)


def test_a_copy_of_a_known_model_keeps_its_owners_name() -> None:
    assert repository_of("chatglm3-6b") == ("zai-org/chatglm3-6b", "chatglm3-6b")
    for name in ("chatglm3-6b", "THUDM/chatglm3-6b", "ZhipuAI/chatglm3-6b"):
        assert repository_of(name, Hub.MODELSCOPE) == ("ZhipuAI/chatglm3-6b", "chatglm3-6b")
        assert repository_of(name) == ("zai-org/chatglm3-6b", "chatglm3-6b")
    assert repository_of("baichuan-13b-chat", Hub.MODELSCOPE)[0] == "baichuan-inc/Baichuan-13B-Chat"
    assert repository_of("somebody/chatglm3-6b") == ("somebody/chatglm3-6b", "somebody-chatglm3-6b")
    assert repository_of("somebody/tuned") == ("somebody/tuned", "tuned")
    for wrong in ("tuned", "a/b/c", "/b", "a/", "chatglm2-tiny", "../b", "a/..", "a b/c"):
        with pytest.raises(UsageProblem, match="give OWNER/NAME"):
            repository_of(wrong)


def test_the_list_of_added_tokens_comes_along() -> None:
    """Without it the tokens that a fine-tune added would be lost."""
    assert needed(*CHATGLM2, "added_tokens.json") == needed(*CHATGLM2) | {"added_tokens.json"}
