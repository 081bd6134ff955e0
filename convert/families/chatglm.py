"""The ChatGLM family, one architecture: hyperparameters as GGUF keys, and tensors by both names.

Names, shapes and values are those of the authors' ``modeling_chatglm.py`` and of llama.cpp's ``chatglm``
architecture (``src/models/chatglm.cpp``), which takes the fused matrices as the checkpoint has them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from glmserve.convert.checkpoint.config import MOST_LAYERS, ConfigFile
from glmserve.convert.checkpoint.reader import TensorSource
from glmserve.convert.checkpoint.views import UnpackedTensors
from glmserve.convert.errors import UnsupportedModelError
from glmserve.convert.families.base import TensorMapping
from glmserve.convert.families.chatglm_variant import Variant, decide_variant
from glmserve.convert.gguf_format import FamilyName, Metadata
from glmserve.convert.vocab.chatglm import load_vocabulary, vocabulary_metadata
from glmserve.convert.vocab.glm4 import byte_level_metadata, load_byte_level

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
        UnsupportedModelError: llama.cpp computes no such architecture.
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


_FIRST_GENERATION = ("position_encoding_2d", "inner_hidden_size", "gmask_token_id")
"""Keys of config.json that no later ChatGLM has."""

MODEL_CODE = "modeling_chatglm.py"
"""The authors' code in the folder, read as text and never run."""

_DIVIDES = re.compile(r"/\s*(?:self\.)?rope_ratio\b")
_MULTIPLIES = re.compile(r"\*\s*(?:self\.)?rope_ratio\b|\b(?:self\.)?rope_ratio\s*\*")


@dataclass(frozen=True, slots=True)
class ChatGLM:
    """A checkpoint of the family; see ``glmserve.convert.families.base.Family``."""

    file: ConfigFile
    config: ChatGLMConfig
    name: FamilyName
    packed_bits: int
    """4 or 8 where the published weights are packed integers, else 0."""
    findings: tuple[str, ...]

    @property
    def layers(self) -> int:
        """Transformer layers."""
        return self.config.num_layers

    @property
    def heads_per_group(self) -> int:
        """Query heads that share a key/value group."""
        return self.config.heads_per_group

    @property
    def ignored(self) -> frozenset[str]:
        """The rotary frequencies."""
        return IGNORED_TENSORS

    def hyperparameters(self) -> Metadata:
        """Return the GGUF keys of name, architecture and shape."""
        return hyperparameters(self.config)

    def vocabulary(self) -> Metadata:
        """Return the GGUF keys of the tokenizer and the prompt; raises MissingFileError, VocabularyError."""
        path, size = self.file.folder / "tokenizer.model", self.config.padded_vocab_size
        if self.name is FamilyName.GLM4:
            return byte_level_metadata(path, load_byte_level(path, size))
        return vocabulary_metadata(load_vocabulary(path, size, self.name))

    def tensors(self) -> tuple[TensorMapping, ...]:
        """Return all tensors of the file, in order."""
        return tensor_table(self.config)

    def prepare(self, source: TensorSource) -> TensorSource:
        """Return the checkpoint's tensors, unpacked where they are int4 or int8."""
        return UnpackedTensors(source, self.packed_bits) if self.packed_bits else source


def read_family(file: ConfigFile, family: FamilyName | None) -> ChatGLM:
    """Decide which model of the family a checkpoint is; see ``glmserve.convert.families.detect.detect``."""
    _check_supported(file)
    kind = decide_variant(file, family)
    rope, rope_findings = decide_rope(file, kind)
    bits, bits_findings = _packed_bits(file)
    findings = (kind.finding, *rope_findings, *bits_findings)
    return ChatGLM(file, read_shape(file, rope), kind.family, bits, findings)


def _packed_bits(file: ConfigFile) -> tuple[int, tuple[str, ...]]:
    bits = file.raw.get("quantization_bit") or 0
    if bits not in (0, 4, 8):
        raise UnsupportedModelError(file.path, f"quantization_bit is {bits!r}; only int4 and int8 are unpacked")
    finding = f"weights: packed int{bits}, unpacked; the checkpoint they were made from gives a better file"
    return (4, (finding,)) if bits == 4 else (8, (finding,)) if bits == 8 else (0, ())


def _check_supported(file: ConfigFile) -> None:
    if any(key in file.raw for key in _FIRST_GENERATION) or (file.folder / "ice_text.model").exists():
        raise UnsupportedModelError(
            file.path,
            "this is ChatGLM-6B of the first generation, a model that llama.cpp does not have; "
            "ChatGLM2-6B and ChatGLM3-6B are its successors",
        )
    if not any(name.startswith("ChatGLM") for name in file.architectures):
        raise UnsupportedModelError(file.path, f"architectures {list(file.architectures)} is not converted; no ChatGLM")


def decide_rope(file: ConfigFile, kind: Variant) -> tuple[Rope, tuple[str, ...]]:
    """Return the rotation, and the reason where the checkpoint left a choice.

    ChatGLM2-32k divides positions by ``rope_ratio``; all its successors multiply the base by it.

    Raises:
        CorruptFileError: the ratio is no positive number.
        UnsupportedModelError: nothing in the folder says what the ratio means.
    """
    if file.raw.get("rope_ratio") in (None, 1, 1.0):
        return Rope(), ()
    ratio = file.positive_number("rope_ratio")
    divides, reason = _by_code(file) or _by_family(file, kind)
    if divides:
        return Rope(factor=ratio), (f"rope: positions are divided by {ratio:g}, because {reason}",)
    base = Rope().base * ratio
    return Rope(base=base), (f"rope: the base is {base:g}, multiplied by {ratio:g}, because {reason}",)


def _by_code(file: ConfigFile) -> tuple[bool, str] | None:
    try:
        code = (file.folder / MODEL_CODE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    divides, multiplies = bool(_DIVIDES.search(code)), bool(_MULTIPLIES.search(code))
    return None if divides == multiplies else (divides, f"{MODEL_CODE} does so")


def _by_family(file: ConfigFile, kind: Variant) -> tuple[bool, str]:
    if not kind.is_certain:
        raise UnsupportedModelError(
            file.path,
            f"rope_ratio is {file.raw['rope_ratio']}, which ChatGLM2 and ChatGLM3 use in different ways; say which "
            f"it is with --family, or copy {MODEL_CODE} of the original into the folder",
        )
    return kind.family is FamilyName.CHATGLM2, f"{kind.family.value} does so ({kind.reason})"
