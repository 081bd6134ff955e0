import json
from pathlib import Path

import pytest

from glmserve.convert.errors import CorruptFileError, MissingFileError, UnsupportedModelError
from glmserve.convert.families.detect import detect
from tests.support.chatglm2_checkpoint import SMALL, make_config
from tests.support.checkpoints import real_checkpoint


def folder_with(tmp_path: Path, **changes: object) -> Path:
    config = {k: v for k, v in (make_config(SMALL) | changes).items() if v is not ...}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def model_name(tmp_path: Path, original: object) -> object:
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
    assert model_name(tmp_path, "/home/me/my-glm/") == "my-glm"
    assert model_name(tmp_path, ...) == tmp_path.name
