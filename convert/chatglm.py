"""ChatGLM2: its config.json, its hyperparameters as GGUF keys, and its tensors by both names.

Names, shapes and values are those of the authors' ``modeling_chatglm.py`` and of llama.cpp's ``chatglm``
architecture (``src/models/chatglm.cpp``), which takes the fused matrices as the checkpoint has them.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from convert.errors import CorruptFileError, MissingFileError, UnsupportedModelError
from convert.metadata import Metadata

ARCHITECTURE = "chatglm"
PROMPT_FORMAT = "chatglm2"
ROPE_BASE = 10000.0

IGNORED_TENSORS = frozenset({"transformer.rotary_pos_emb.inv_freq"})
"""Computed from the hyperparameters, so not converted."""

# What the arithmetic of llama.cpp's graph presumes, with the default of the authors' configuration class for
# a key that config.json leaves out.
_REQUIRED = {
    "multi_query_attention": (True, False),
    "add_qkv_bias": (True, False),
    "add_bias_linear": (False, False),
    "rmsnorm": (True, True),
    "post_layer_norm": (True, True),
    "original_rope": (True, True),
    "apply_residual_connection_post_layernorm": (False, False),
    "tie_word_embeddings": (False, False),
}

_OTHER_FAMILIES = ("chatglm3", "codegeex", "glm-4", "glm4")


@dataclass(frozen=True, slots=True)
class ChatGLM2Config:
    """The hyperparameters that conversion needs, checked."""

    name: str
    num_layers: int
    hidden_size: int
    ffn_hidden_size: int
    num_attention_heads: int
    kv_channels: int
    """Values per attention head; half of them are rotated."""
    multi_query_group_num: int
    """Key/value groups."""
    padded_vocab_size: int
    seq_length: int
    layernorm_epsilon: float
    rope_ratio: float = 1.0
    """Positions are divided by it (the 32k variant: 16)."""

    @property
    def qkv_rows(self) -> int:
        """Rows of the fused query, key and value matrix."""
        return (self.num_attention_heads + 2 * self.multi_query_group_num) * self.kv_channels

    @property
    def heads_per_group(self) -> int:
        """Query heads that share one key/value group."""
        return self.num_attention_heads // self.multi_query_group_num


@dataclass(frozen=True, slots=True)
class TensorMapping:
    """One tensor under its name in the checkpoint and in the GGUF."""

    source: str
    target: str
    shape: tuple[int, ...]
    """(rows, columns), or (values,) for a vector."""
    layer: int = 0
    """0 too for tensors outside the layers."""


def read_config(folder: Path) -> ChatGLM2Config:
    """Read and check ``config.json``.

    Raises:
        MissingFileError: there is none.
        CorruptFileError: it is not a JSON object, or a value has the wrong type.
        UnsupportedModelError: it describes another model, or a variant that is not converted.
    """
    path = folder / "config.json"
    raw = _load(path)
    _check_family(path, raw)
    config = ChatGLM2Config(
        name=_name(raw, folder),
        num_layers=_positive_int(path, raw, "num_layers"),
        hidden_size=_positive_int(path, raw, "hidden_size"),
        ffn_hidden_size=_positive_int(path, raw, "ffn_hidden_size"),
        num_attention_heads=_positive_int(path, raw, "num_attention_heads"),
        kv_channels=_positive_int(path, raw, "kv_channels"),
        multi_query_group_num=_positive_int(path, raw, "multi_query_group_num"),
        padded_vocab_size=_positive_int(path, raw, "padded_vocab_size"),
        seq_length=_positive_int(path, raw, "seq_length"),
        layernorm_epsilon=_positive_number(path, raw, "layernorm_epsilon"),
        rope_ratio=_rope_ratio(path, raw),
    )
    _check_heads(path, config)
    return config


def hyperparameters(config: ChatGLM2Config) -> Metadata:
    """Return the architecture's GGUF keys."""
    keys: Metadata = {
        "general.architecture": ARCHITECTURE,
        "general.type": "model",
        "general.name": config.name,
        f"{ARCHITECTURE}.vocab_size": config.padded_vocab_size,
        f"{ARCHITECTURE}.context_length": config.seq_length,
        f"{ARCHITECTURE}.embedding_length": config.hidden_size,
        f"{ARCHITECTURE}.feed_forward_length": config.ffn_hidden_size,
        f"{ARCHITECTURE}.block_count": config.num_layers,
        f"{ARCHITECTURE}.attention.head_count": config.num_attention_heads,
        f"{ARCHITECTURE}.attention.head_count_kv": config.multi_query_group_num,
        f"{ARCHITECTURE}.attention.layer_norm_rms_epsilon": config.layernorm_epsilon,
        f"{ARCHITECTURE}.rope.dimension_count": config.kv_channels // 2,
        f"{ARCHITECTURE}.rope.freq_base": ROPE_BASE,
    }
    if config.rope_ratio != 1.0:
        keys[f"{ARCHITECTURE}.rope.scaling.type"] = "linear"
        keys[f"{ARCHITECTURE}.rope.scaling.factor"] = config.rope_ratio
    return keys


def tensor_table(config: ChatGLM2Config) -> tuple[TensorMapping, ...]:
    """Return all tensors of the model, in the order in which they are written."""
    vocab = (config.padded_vocab_size, config.hidden_size)
    return (
        TensorMapping("transformer.embedding.word_embeddings.weight", "token_embd.weight", vocab),
        *(tensor for layer in range(config.num_layers) for tensor in _layer_tensors(config, layer)),
        TensorMapping("transformer.encoder.final_layernorm.weight", "output_norm.weight", (config.hidden_size,)),
        TensorMapping("transformer.output_layer.weight", "output.weight", vocab),
    )


def _layer_tensors(config: ChatGLM2Config, layer: int) -> Iterator[TensorMapping]:
    hidden, ffn, qkv = config.hidden_size, config.ffn_hidden_size, config.qkv_rows
    names = (
        ("input_layernorm.weight", "attn_norm.weight", (hidden,)),
        ("self_attention.query_key_value.weight", "attn_qkv.weight", (qkv, hidden)),
        ("self_attention.query_key_value.bias", "attn_qkv.bias", (qkv,)),
        ("self_attention.dense.weight", "attn_output.weight", (hidden, hidden)),
        ("post_attention_layernorm.weight", "ffn_norm.weight", (hidden,)),
        ("mlp.dense_h_to_4h.weight", "ffn_up.weight", (2 * ffn, hidden)),
        ("mlp.dense_4h_to_h.weight", "ffn_down.weight", (hidden, ffn)),
    )
    for source, target, shape in names:
        yield TensorMapping(f"transformer.encoder.layers.{layer}.{source}", f"blk.{layer}.{target}", shape, layer)


def _load(path: Path) -> Mapping[str, object]:
    try:
        raw: object = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingFileError(path, "SOURCE must be the folder of a checkpoint in Hugging Face's layout") from error
    except (OSError, ValueError) as error:
        raise CorruptFileError(path, f"it is not JSON ({error})") from error
    if not isinstance(raw, dict):
        raise CorruptFileError(path, "it is not a JSON object")
    return raw


def _check_family(path: Path, raw: Mapping[str, object]) -> None:
    model_type = raw.get("model_type", ARCHITECTURE)  # older copies have none
    listed = raw.get("architectures")
    architectures = [str(a) for a in listed] if isinstance(listed, list) else []
    if model_type != ARCHITECTURE or not any(a.startswith("ChatGLM") for a in architectures):
        raise UnsupportedModelError(
            path,
            f"model_type {model_type!r} with architectures {architectures} is not "
            "ChatGLM2, the only model converted so far",
        )
    if "multi_query_group_num" not in raw:
        raise UnsupportedModelError(path, "this is the first ChatGLM-6B, another architecture; use ChatGLM2-6B")
    name = str(raw.get("_name_or_path", "")).lower()
    if any(family in name for family in _OTHER_FAMILIES):
        raise UnsupportedModelError(
            path,
            f"{raw['_name_or_path']} has a prompt or a tokenizer of its own, which is "
            "not converted yet; only ChatGLM2 is",
        )
    if raw.get("quantization_bit"):
        raise UnsupportedModelError(
            path,
            f"the weights are packed int{raw['quantization_bit']}; convert the float16 checkpoint instead",
        )
    if raw.get("pre_seq_len"):
        raise UnsupportedModelError(path, "this is a P-Tuning checkpoint; convert the base model instead")
    for key, (needed, default) in _REQUIRED.items():
        if raw.get(key, default) != needed:
            raise UnsupportedModelError(
                path,
                f"{key} is {raw.get(key, default)}, and ChatGLM2 has {needed}; this variant is not converted",
            )


def _check_heads(path: Path, config: ChatGLM2Config) -> None:
    if config.num_attention_heads * config.kv_channels != config.hidden_size:
        raise UnsupportedModelError(
            path, "num_attention_heads x kv_channels is not hidden_size; llama.cpp has no such ChatGLM"
        )
    if config.num_attention_heads % config.multi_query_group_num:
        raise UnsupportedModelError(path, "multi_query_group_num does not divide num_attention_heads")
    if config.kv_channels % 4:
        raise UnsupportedModelError(path, "kv_channels must be a multiple of 4: half of them are rotated, in pairs")


def _rope_ratio(path: Path, raw: Mapping[str, object]) -> float:
    if raw.get("rope_ratio") in (None, 1, 1.0):
        return 1.0
    # ChatGLM2 divides positions by the ratio; its successors multiply the base by it under the same key. Only
    # the name tells them apart here, so without it there is no right answer.
    if "chatglm2" not in str(raw.get("_name_or_path", "")).lower():
        raise UnsupportedModelError(
            path,
            f"rope_ratio is {raw['rope_ratio']}, which ChatGLM2 and ChatGLM3 use in "
            "different ways; put the original name into _name_or_path, such as "
            "THUDM/chatglm2-6b-32k",
        )
    return _positive_number(path, raw, "rope_ratio")


def _name(raw: Mapping[str, object], folder: Path) -> str:
    # _name_or_path of a fine-tune is often a path on somebody's machine: only its last part is a name.
    return str(raw.get("_name_or_path", "")).rstrip("/").rpartition("/")[2] or folder.resolve().name


def _positive_int(path: Path, raw: Mapping[str, object], key: str) -> int:
    value = raw.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise CorruptFileError(path, f"{key} is {value!r} and must be a positive whole number")
    return value


def _positive_number(path: Path, raw: Mapping[str, object], key: str) -> float:
    value = raw.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
        raise CorruptFileError(path, f"{key} is {value!r} and must be a positive number")
    return float(value)
