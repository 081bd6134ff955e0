"""Folders as people have them: of a hub's cache, of a training, wrapped, with other content under the right names."""

import json
from pathlib import Path

import numpy as np
import pytest

from glmserve.convert.checkpoint.config import find_checkpoint, model_name
from glmserve.convert.checkpoint.reader import open_checkpoint
from glmserve.convert.errors import (
    ConvertError,
    CorruptFileError,
    ForbiddenContentError,
    MissingFileError,
    UnsupportedFileError,
    UnsupportedModelError,
)
from glmserve.convert.families.detect import detect
from glmserve.convert.pipeline import convert_checkpoint, plan_conversion
from glmserve.convert.quantize.recipes import QuantType
from tests.support.chatglm2_checkpoint import SMALL, Shape, make_config, make_weights, write_checkpoint
from tests.support.checkpoints import real_checkpoint
from tests.support.torch_bin import Stored, pickled, write_bin


def folder_with(tmp_path: Path, **changes: object) -> Path:
    config = {k: v for k, v in (make_config(SMALL) | changes).items() if v is not ...}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def converted_name(tmp_path: Path, original: object) -> object:
    return detect(folder_with(tmp_path, _name_or_path=original)).hyperparameters()["general.name"]


def test_the_real_configuration_becomes_the_keys_llama_cpp_reads() -> None:
    keys = detect(real_checkpoint("chatglm2-6b", "config.json")).hyperparameters()
    assert keys["general.name"] == "chatglm2-6b"
    assert keys["chatglm.context_length"] == 32768
    assert keys["chatglm.feed_forward_length"] == 13696
    assert keys["chatglm.block_count"] == 28
    assert keys["chatglm.attention.head_count"] == 32
    assert keys["chatglm.attention.head_count_kv"] == 2
    assert keys["chatglm.rope.dimension_count"] == 64
    assert keys["chatglm.rope.freq_base"] == 10000.0
    assert "chatglm.rope.scaling.type" not in keys


def test_the_real_model_has_199_tensors_to_convert_and_their_known_size() -> None:
    table = detect(real_checkpoint("chatglm2-6b", "config.json")).tensors()
    values = sum(t.shape[0] * (t.shape[1] if len(t.shape) > 1 else 1) for t in table)
    index = real_checkpoint("chatglm2-6b", "pytorch_model.bin.index.json") / "pytorch_model.bin.index.json"
    named = json.loads(index.read_text())
    inv_freq = "transformer.rotary_pos_emb.inv_freq"
    assert {t.source for t in table} | {inv_freq} == set(named["weight_map"])
    assert 2 * (values + 32) == named["metadata"]["total_size"]


def test_the_32k_variant_divides_positions() -> None:
    keys = detect(real_checkpoint("chatglm2-6b-32k", "config.json")).hyperparameters()
    assert keys["chatglm.rope.scaling.type"] == "linear"
    assert keys["chatglm.rope.scaling.factor"] == 16.0
    assert keys["chatglm.rope.freq_base"] == 10000.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "llama"}, "is not converted"),
        ({"architectures": ["LlamaForCausalLM"]}, "is not converted"),
        ({"multi_query_group_num": ...}, "first ChatGLM-6B"),
        ({"multi_query_attention": False}, "multi_query_attention is False"),
        ({"original_rope": False}, "original_rope is False"),
        ({"rmsnorm": False}, "rmsnorm is False"),
        ({"add_bias_linear": True}, "add_bias_linear is True"),
        ({"add_qkv_bias": ...}, "add_qkv_bias is False"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings is True"),
        ({"quantization_bit": 3}, "quantization_bit is 3"),
        ({"rope_ratio": 50, "_name_or_path": "mine"}, "rope_ratio is 50"),
        ({"kv_channels": 64}, "hidden_size"),
        ({"multi_query_group_num": 3}, "does not divide"),
    ],
)
def test_what_llama_cpp_would_compute_differently_is_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UnsupportedModelError, match=message) as caught:
        detect(folder_with(tmp_path, **changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["28", 0, -1, 1.5, None, True])
def test_a_number_that_is_none_is_named(tmp_path: Path, value: object) -> None:
    with pytest.raises(CorruptFileError, match=r"num_layers is .* must be a positive whole number"):
        detect(folder_with(tmp_path, num_layers=value))


@pytest.mark.parametrize("value", ["1e-5", 0, -1e-5, None, float("inf"), float("nan")])
def test_a_size_that_cannot_be_is_named(tmp_path: Path, value: object) -> None:
    with pytest.raises(CorruptFileError, match=r"layernorm_epsilon is .* must be a positive number"):
        detect(folder_with(tmp_path, layernorm_epsilon=value))


@pytest.mark.parametrize("text", ["", "[]", "{", "\x00", "[" * 100000])
def test_a_config_that_is_not_json_is_damaged(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CorruptFileError, match=r"config\.json is damaged"):
        detect(tmp_path)


def test_a_folder_without_config_is_not_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="SOURCE must be the folder"):
        detect(tmp_path)


def test_a_copy_saved_from_a_local_path_is_named_after_its_last_part(tmp_path: Path) -> None:
    assert converted_name(tmp_path, "/home/me/my-glm/") == "my-glm"
    assert converted_name(tmp_path, ...) == tmp_path.name


SHAPE = Shape(layers=1)
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1018370\n"


@pytest.fixture
def weights() -> dict[str, np.ndarray]:
    return make_weights(SHAPE, 1)


def in_cache(root: Path, *commits: str, main: str = "") -> Path:
    repository = root / "models--THUDM--chatglm2-6b"
    for commit in commits:
        write_checkpoint(repository / "snapshots" / commit, SHAPE, make_weights(SHAPE, 1))
    (repository / "refs").mkdir()
    if main:
        (repository / "refs" / "main").write_text(main + "\n")
    return repository


def test_a_repository_in_the_cache_is_its_main_snapshot_and_called_by_its_name(tmp_path: Path) -> None:
    """It was called by its hash, and the folder above was not understood."""
    repository = in_cache(tmp_path, "b1ff0e", "d2e27a", main="d2e27a")
    found = find_checkpoint(repository)
    assert found == repository / "snapshots" / "d2e27a"
    assert find_checkpoint(found) == found
    assert {model_name(path) for path in (repository, found)} == {"chatglm2-6b"}


def test_the_only_snapshot_needs_no_reference_and_several_do(tmp_path: Path) -> None:
    assert find_checkpoint(in_cache(tmp_path / "one", "b1ff0e")).name == "b1ff0e"
    with pytest.raises(UnsupportedModelError, match="holds 2 snapshots"):
        find_checkpoint(in_cache(tmp_path / "two", "b1ff0e", "d2e27a", main="gone"))


def test_the_output_folder_of_a_training_is_its_only_checkpoint(tmp_path: Path) -> None:
    output = tmp_path / "adgen-chatglm2-6b-pt-128"
    first = write_checkpoint(output / "checkpoint-1000", SHAPE, make_weights(SHAPE, 1))
    (output / "runs").mkdir()
    assert find_checkpoint(output) == first
    assert model_name(first) == "adgen-chatglm2-6b-pt-128-checkpoint-1000"
    write_checkpoint(output / "checkpoint-900", SHAPE, make_weights(SHAPE, 1))
    with pytest.raises(UnsupportedModelError, match="name one of them: checkpoint-900, checkpoint-1000"):
        find_checkpoint(output)
    write_checkpoint(output, SHAPE, make_weights(SHAPE, 1))
    assert find_checkpoint(output) == output


def test_a_folder_above_is_converted_too(tmp_path: Path) -> None:
    convert_checkpoint(in_cache(tmp_path, "b1ff0e"), tmp_path / "m.gguf", QuantType.F16)
    assert (tmp_path / "m.gguf").exists()


@pytest.mark.parametrize("prefix", ["module.", "base_model.model.", "module.base_model.model.", "_orig_mod.module."])
def test_what_a_training_puts_before_every_name_is_dropped(
    tmp_path: Path, weights: dict[str, np.ndarray], prefix: str
) -> None:
    folder = write_checkpoint(tmp_path, SHAPE, {prefix + name: tensor for name, tensor in weights.items()})
    assert set(open_checkpoint(folder).names()) == set(weights)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "module"])
def test_a_dictionary_in_a_dictionary_is_unwrapped(tmp_path: Path, weights: dict[str, np.ndarray], key: str) -> None:
    folder = write_checkpoint(tmp_path / "hf", SHAPE, weights)
    convert_checkpoint(folder, tmp_path / "plain.gguf", QuantType.F16)
    (folder / "model.safetensors").unlink()
    stored = {f"module.{name}": Stored(tensor) for name, tensor in weights.items()}
    write_bin(folder / "pytorch_model.bin", stored, pickle=wrapped(stored, key))
    convert_checkpoint(folder, tmp_path / "wrapped.gguf", QuantType.F16)
    assert (tmp_path / "wrapped.gguf").read_bytes() == (tmp_path / "plain.gguf").read_bytes()


def wrapped(tensors: dict[str, Stored], key: str, extra: bytes = b"") -> bytes:
    """A pickle of {"epoch": 3, key: tensors, "optimizer": {0: 0.5}}, and what else is asked for."""
    inner = pickled(tensors)
    assert inner[:2] == b"\x80\x02"
    assert inner.endswith(b".")

    def text(value: str) -> bytes:
        return b"X" + len(value).to_bytes(4, "little") + value.encode()

    optimizer = text("optimizer") + b"}K\x00G?\xe0\x00\x00\x00\x00\x00\x00s"
    return b"\x80\x02}(" + text("epoch") + b"K\x03" + text(key) + inner[2:-1] + optimizer + extra + b"u."


def test_what_stands_beside_the_tensors_runs_nothing(tmp_path: Path, weights: dict[str, np.ndarray]) -> None:
    folder = write_checkpoint(tmp_path, SHAPE, weights)
    (folder / "model.safetensors").unlink()
    stored = {name: Stored(tensor) for name, tensor in weights.items()}
    hostile = b"X\x01\x00\x00\x00xcposix\nsystem\nX\x02\x00\x00\x00id\x85R"
    write_bin(folder / "pytorch_model.bin", stored, pickle=wrapped(stored, "state_dict", hostile))
    with pytest.raises(ForbiddenContentError, match=r"posix\.system"):
        open_checkpoint(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.model", "model.safetensors", "tokenizer_config.json"])
def test_a_pointer_of_git_lfs_is_called_one_whatever_the_file(
    tmp_path: Path, weights: dict[str, np.ndarray], name: str
) -> None:
    folder = write_checkpoint(tmp_path, SHAPE, weights)
    (folder / name).write_text(POINTER)
    with pytest.raises(UnsupportedFileError, match=f"{name} is only a pointer of Git LFS"):
        plan_conversion(folder, QuantType.F16)


def test_a_pointer_instead_of_an_index_an_adapter_or_an_importance_matrix_is_called_one(
    tmp_path: Path, weights: dict[str, np.ndarray]
) -> None:
    folder = write_checkpoint(tmp_path / "hf", SHAPE, weights, shards=2)
    (tmp_path / "imatrix.gguf").write_text(POINTER)
    with pytest.raises(UnsupportedFileError, match=r"imatrix.gguf is only a pointer"):
        plan_conversion(folder, QuantType.F16, imatrix=tmp_path / "imatrix.gguf")
    adapter = tmp_path / "lora"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"lora_alpha": 8}')
    (adapter / "adapter_model.safetensors").write_text(POINTER)
    with pytest.raises(UnsupportedFileError, match=r"adapter_model.safetensors is only a pointer"):
        plan_conversion(adapter, QuantType.F16)
    (folder / "model.safetensors.index.json").write_text(POINTER)
    with pytest.raises(UnsupportedFileError, match=r"index.json is only a pointer"):
        plan_conversion(folder, QuantType.F16)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.model", "model.safetensors"])
def test_a_web_page_is_called_one(tmp_path: Path, weights: dict[str, np.ndarray], name: str) -> None:
    folder = write_checkpoint(tmp_path, SHAPE, weights)
    (folder / name).write_text("<!DOCTYPE html><html><title>Sign in</title></html>")
    with pytest.raises(CorruptFileError, match=f"{name} is damaged: it is a web page"):
        plan_conversion(folder, QuantType.F16)


def test_a_byte_order_mark_is_no_fault(tmp_path: Path, weights: dict[str, np.ndarray]) -> None:
    folder = write_checkpoint(tmp_path, SHAPE, weights)
    (folder / "config.json").write_text(json.dumps(make_config(SHAPE)), "utf-8-sig")
    assert plan_conversion(folder, QuantType.F16).tensors


def test_the_first_generation_is_called_by_its_name(tmp_path: Path) -> None:
    """Its config.json says model_type chatglm as well; what was missing was told first."""
    config = {
        "architectures": ["ChatGLMModel"], "model_type": "chatglm", "vocab_size": 130528, "hidden_size": 4096,
        "inner_hidden_size": 16384, "num_layers": 28, "num_attention_heads": 32, "position_encoding_2d": True,
        "max_sequence_length": 2048, "gmask_token_id": 130001, "layernorm_epsilon": 1e-05,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConvertError, match=r"ChatGLM-6B of the first generation.*ChatGLM2-6B"):
        plan_conversion(tmp_path, QuantType.F16)


def test_real_configurations_are_of_no_first_generation() -> None:
    for name in ("chatglm2-6b", "chatglm3-6b"):
        with pytest.raises(ConvertError, match=r"shards|weights|model.safetensors"):
            plan_conversion(real_checkpoint(name, "config.json"), QuantType.F16)
