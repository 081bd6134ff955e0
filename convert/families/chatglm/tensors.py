"""ChatGLM2 and its successors: hyperparameters as GGUF keys, and tensors by both names.

Names, shapes and values are those of the authors' ``modeling_chatglm.py`` and of llama.cpp's ``chatglm``
architecture (``src/models/chatglm.cpp``), which takes the fused matrices as the checkpoint has them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from glmserve.convert.checkpoint.config import MOST_LAYERS, ConfigFile
from glmserve.convert.errors import UnsupportedModelError
from glmserve.convert.families.base import TensorMapping
from glmserve.convert.gguf_keys import Metadata

ARCHITECTURE = "chatglm"

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


@dataclass(frozen=True, slots=True)
class Rope:
    """How positions become angles."""

    base: float = 10000.0
    factor: float = 1.0
    """Positions are divided by it."""


@dataclass(frozen=True, slots=True)
class ChatGLMConfig:
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
    rope: Rope = field(default_factory=Rope)

    @property
    def qkv_rows(self) -> int:
        """Rows of the fused query, key and value matrix."""
        return (self.num_attention_heads + 2 * self.multi_query_group_num) * self.kv_channels

    @property
    def heads_per_group(self) -> int:
        """Query heads that share one key/value group."""
        return self.num_attention_heads // self.multi_query_group_num


def read_shape(file: ConfigFile, rope: Rope) -> ChatGLMConfig:
    """Check a ``config.json`` and return its hyperparameters.

    Raises:
        CorruptFileError: a value has the wrong type.
        UnsupportedModelError: llama.cpp computes no such variant.
    """
    _check_variant(file)
    config = ChatGLMConfig(
        name=file.name,
        num_layers=file.positive_int("num_layers", MOST_LAYERS),
        hidden_size=file.positive_int("hidden_size"),
        ffn_hidden_size=file.positive_int("ffn_hidden_size"),
        num_attention_heads=file.positive_int("num_attention_heads"),
        kv_channels=file.positive_int("kv_channels"),
        multi_query_group_num=file.positive_int("multi_query_group_num"),
        padded_vocab_size=file.positive_int("padded_vocab_size"),
        seq_length=file.positive_int("seq_length", 1 << 24),
        layernorm_epsilon=file.positive_number("layernorm_epsilon"),
        rope=rope,
    )
    _check_heads(file, config)
    return config


def hyperparameters(config: ChatGLMConfig) -> Metadata:
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
        f"{ARCHITECTURE}.rope.freq_base": config.rope.base,
    }
    if config.rope.factor != 1.0:
        keys[f"{ARCHITECTURE}.rope.scaling.type"] = "linear"
        keys[f"{ARCHITECTURE}.rope.scaling.factor"] = config.rope.factor
    return keys


def tensor_table(config: ChatGLMConfig) -> tuple[TensorMapping, ...]:
    """Return all tensors of the model, in the order in which they are written."""
    vocab = (config.padded_vocab_size, config.hidden_size)
    return (
        TensorMapping("transformer.embedding.word_embeddings.weight", "token_embd.weight", vocab),
        *(tensor for layer in range(config.num_layers) for tensor in _layer_tensors(config, layer)),
        TensorMapping("transformer.encoder.final_layernorm.weight", "output_norm.weight", (config.hidden_size,)),
        TensorMapping("transformer.output_layer.weight", "output.weight", vocab),
    )


def _layer_tensors(config: ChatGLMConfig, layer: int) -> Iterator[TensorMapping]:
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


def _check_variant(file: ConfigFile) -> None:
    if "multi_query_group_num" not in file.raw:
        raise UnsupportedModelError(file.path, "this is the first ChatGLM-6B, another architecture; use ChatGLM2-6B")
    for key, (needed, default) in _REQUIRED.items():
        if file.raw.get(key, default) != needed:
            raise UnsupportedModelError(
                file.path,
                f"{key} is {file.raw.get(key, default)}, and ChatGLM2 has {needed}; this variant is not converted",
            )


def _check_heads(file: ConfigFile, config: ChatGLMConfig) -> None:
    if config.num_attention_heads * config.kv_channels != config.hidden_size:
        raise UnsupportedModelError(
            file.path, "num_attention_heads x kv_channels is not hidden_size; llama.cpp has no such ChatGLM"
        )
    if config.num_attention_heads % config.multi_query_group_num:
        raise UnsupportedModelError(file.path, "multi_query_group_num does not divide num_attention_heads")
    if config.kv_channels % 4:
        raise UnsupportedModelError(
            file.path, "kv_channels must be a multiple of 4: half of them are rotated, in pairs"
        )
