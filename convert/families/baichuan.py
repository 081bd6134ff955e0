"""Baichuan and Baichuan2: hyperparameters as GGUF keys, tensors by both names, and how they differ.

Names and values are those of the authors' ``modeling_baichuan.py`` and of llama.cpp's ``baichuan`` architecture
(``src/models/baichuan.cpp``). The fused ``W_pack`` is split into query, key and value matrices: all versions of
llama.cpp take these, and its mixtures give only the values more bits.

llama.cpp goes by the number of layers: with 32 it rotates positions (the 7B models), with 40 it biases attention
by distance (ALiBi, the 13B models), and with any other number it does neither.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from glmserve.convert.checkpoint.config import MOST_LAYERS, ConfigFile
from glmserve.convert.checkpoint.reader import TensorSource
from glmserve.convert.checkpoint.views import View, ViewedTensors, normalize_rows
from glmserve.convert.errors import TensorShapeError, UnsupportedModelError
from glmserve.convert.families.base import ModelConfig, TensorMapping
from glmserve.convert.gguf_format import FamilyName, Metadata
from glmserve.convert.vocab.baichuan import RoleIds, baichuan_vocabulary, read_role_ids

ARCHITECTURE = "baichuan"
ROTARY_LAYERS, ALIBI_LAYERS = 32, 40
BAICHUAN2_VOCABULARY = 125696

_HEAD = "lm_head.weight"
_HEAD_NORMALIZED = f"{_HEAD} (rows normalised)"


@dataclass(frozen=True, slots=True)
class BaichuanConfig(ModelConfig):
    """The hyperparameters that conversion needs, checked."""

    @property
    def head_size(self) -> int:
        """Values per attention head."""
        return self.hidden // self.heads

    @property
    def is_rotary(self) -> bool:
        """Whether llama.cpp rotates queries and keys; else it biases attention by distance."""
        return self.layers == ROTARY_LAYERS


@dataclass(frozen=True, slots=True)
class Baichuan:
    """A checkpoint of the family; see ``glmserve.convert.families.base.Family``."""

    file: ConfigFile
    config: BaichuanConfig
    roles: RoleIds
    name: FamilyName
    findings: tuple[str, ...]

    @property
    def layers(self) -> int:
        """Transformer layers."""
        return self.config.layers

    @property
    def heads_per_group(self) -> int:
        """Each head has keys and values of its own."""
        return 1

    @property
    def ignored(self) -> frozenset[str]:
        """Tensors that llama.cpp computes from the hyperparameters."""
        rotary = (f"model.layers.{i}.self_attn.rotary_emb.inv_freq" for i in range(self.layers))
        return frozenset((*rotary, "model.future_mask", "model.alibi_mask"))

    def hyperparameters(self) -> Metadata:
        """Return the GGUF keys of name, architecture and shape."""
        config = self.config
        return {
            **config.metadata(ARCHITECTURE),
            f"{ARCHITECTURE}.attention.head_count_kv": config.heads,
            f"{ARCHITECTURE}.attention.layer_norm_rms_epsilon": config.epsilon,
            # llama.cpp asserts it even where nothing is rotated.
            f"{ARCHITECTURE}.rope.dimension_count": config.head_size,
        }

    def vocabulary(self) -> Metadata:
        """Return the GGUF keys of the tokenizer and the prompt; raises MissingFileError, VocabularyError."""
        return baichuan_vocabulary(self.file.folder, self.config.vocabulary, self.roles, self.name)

    def tensors(self) -> tuple[TensorMapping, ...]:
        """Return all tensors of the file, in order."""
        vocabulary = (self.config.vocabulary, self.config.hidden)
        head = _HEAD_NORMALIZED if self.name is FamilyName.BAICHUAN2 else _HEAD
        return (
            TensorMapping("model.embed_tokens.weight", "token_embd.weight", vocabulary),
            *(tensor for layer in range(self.layers) for tensor in _layer_tensors(self.config, layer)),
            TensorMapping("model.norm.weight", "output_norm.weight", (self.config.hidden,)),
            TensorMapping(head, "output.weight", vocabulary),
        )

    def prepare(self, source: TensorSource) -> TensorSource:
        """Return the tensors with W_pack split, and Baichuan2's output normalised; raises TensorShapeError."""
        views: dict[str, View] = {}
        for layer in range(self.layers):
            views |= _attention_views(source, self.config, f"model.layers.{layer}.self_attn.W_pack.weight")
        if self.name is FamilyName.BAICHUAN2:
            rows = source.info(_HEAD).shape[0]
            views[_HEAD_NORMALIZED] = View(_HEAD, 0, rows, change=normalize_rows)
        return ViewedTensors(source, views)


def read_family(file: ConfigFile, family: FamilyName | None) -> Baichuan:
    """Decide which model of the family a checkpoint is; see ``glmserve.convert.families.detect.detect``.

    Raises:
        CorruptFileError: a value has the wrong type.
        UnsupportedModelError: an architecture that llama.cpp computes differently.
    """
    if family not in (None, FamilyName.BAICHUAN, FamilyName.BAICHUAN2):
        raise UnsupportedModelError(file.path, f"this is a Baichuan, which cannot be converted as {family.value}")
    config = _read_config(file)
    name, reason = _version(file, config, family)
    roles = read_role_ids(file.folder)
    return Baichuan(file, config, roles, name, (reason, _positions(config)))


def _read_config(file: ConfigFile) -> BaichuanConfig:
    config = BaichuanConfig(
        name=file.name,
        layers=file.positive_int("num_hidden_layers", MOST_LAYERS),
        hidden=file.positive_int("hidden_size"),
        ffn=file.positive_int("intermediate_size"),
        heads=file.positive_int("num_attention_heads"),
        vocabulary=file.positive_int("vocab_size"),
        context=file.positive_int(
            "model_max_length" if "model_max_length" in file.raw else "max_position_embeddings", 1 << 24
        ),
        epsilon=file.positive_number("rms_norm_eps"),
    )
    if config.layers not in (ROTARY_LAYERS, ALIBI_LAYERS):
        raise UnsupportedModelError(
            file.path,
            f"num_hidden_layers is {config.layers}; llama.cpp knows a Baichuan of {ROTARY_LAYERS} layers (7B) and "
            f"of {ALIBI_LAYERS} (13B), and would leave positions out of any other",
        )
    if config.hidden % config.heads or config.head_size % 2:
        raise UnsupportedModelError(file.path, "num_attention_heads does not divide hidden_size into even parts")
    if file.raw.get("hidden_act", "silu") != "silu" or file.raw.get("tie_word_embeddings", False):
        raise UnsupportedModelError(file.path, "hidden_act must be silu and tie_word_embeddings false, as in Baichuan")
    return config


def _version(file: ConfigFile, config: BaichuanConfig, family: FamilyName | None) -> tuple[FamilyName, str]:
    # Nothing in config.json says NormHead: the second version's larger vocabulary and training key tell it.
    signs = {"vocab_size": config.vocabulary == BAICHUAN2_VOCABULARY, "z_loss_weight": "z_loss_weight" in file.raw}
    seen = next((key for key, present in signs.items() if present), None)
    second = family is FamilyName.BAICHUAN2 or (family is None and seen is not None)
    because = "as asked" if family else f"by {seen}" if seen else f"by vocab_size {config.vocabulary}"
    if second:
        return FamilyName.BAICHUAN2, f"Baichuan2 ({because}): the rows of lm_head are normalised"
    return FamilyName.BAICHUAN, f"the first Baichuan ({because}): lm_head stays as it is"


def _positions(config: BaichuanConfig) -> str:
    how = "rotated positions, as in the 7B models" if config.is_rotary else "ALiBi, as in the 13B models"
    return f"{config.layers} layers: {how}"


def _layer_tensors(config: BaichuanConfig, layer: int) -> Iterator[TensorMapping]:
    square, up = (config.hidden, config.hidden), (config.ffn, config.hidden)
    names = (
        ("input_layernorm.weight", "attn_norm.weight", (config.hidden,)),
        ("self_attn.W_pack.weight (query)", "attn_q.weight", square),
        ("self_attn.W_pack.weight (key)", "attn_k.weight", square),
        ("self_attn.W_pack.weight (value)", "attn_v.weight", square),
        ("self_attn.o_proj.weight", "attn_output.weight", square),
        ("post_attention_layernorm.weight", "ffn_norm.weight", (config.hidden,)),
        ("mlp.gate_proj.weight", "ffn_gate.weight", up),
        ("mlp.up_proj.weight", "ffn_up.weight", up),
        ("mlp.down_proj.weight", "ffn_down.weight", (config.hidden, config.ffn)),
    )
    for source, target, shape in names:
        yield TensorMapping(f"model.layers.{layer}.{source}", f"blk.{layer}.{target}", shape, layer)


def _attention_views(source: TensorSource, config: BaichuanConfig, packed: str) -> dict[str, View]:
    info, expected = source.info(packed), (3 * config.hidden, config.hidden)
    if info.shape != expected:
        raise TensorShapeError(packed, info.path, info.shape, expected)
    # The authors rotate halves of a head against each other, llama.cpp neighbours.
    rotated = config.head_size if config.is_rotary else 0
    return {
        f"{packed} (query)": View(packed, 0, config.hidden, rotated),
        f"{packed} (key)": View(packed, config.hidden, config.hidden, rotated),
        f"{packed} (value)": View(packed, 2 * config.hidden, config.hidden),
    }
