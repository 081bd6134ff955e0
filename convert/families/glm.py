"""GLM-4 in Hugging Face's own layout: the ``config.json`` of transformers' own GLM classes.

``glm`` is the arithmetic of ChatGLM under other names, so it becomes llama.cpp's ``chatglm``. ``glm4`` has two more
norms in each layer and is an architecture of its own there. Both rotate neighbouring values of a head, as llama.cpp
does, so no row changes its place.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from glmserve.convert.checkpoint.config import MOST_LAYERS, ConfigFile
from glmserve.convert.checkpoint.reader import TensorSource
from glmserve.convert.errors import CorruptFileError, UnsupportedModelError
from glmserve.convert.families.base import ModelConfig, TensorMapping
from glmserve.convert.gguf_format import FamilyName, Metadata
from glmserve.convert.vocab.glm4 import glm4_vocabulary

_CHATGLM, _GLM4 = "chatglm", "glm4"
_ARCHITECTURES: Mapping[str, tuple[str, str]] = {
    "glm": ("GlmForCausalLM", _CHATGLM),
    "glm4": ("Glm4ForCausalLM", _GLM4),
}
"""``model_type`` -> class of transformers, architecture of llama.cpp."""

_PARTIAL_ROTARY = 0.5
"""Default of both classes."""
_BASE = 10000.0


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How positions beyond the training context are mapped into it."""

    kind: str
    """``linear`` or ``yarn``."""
    factor: float
    original_context: int
    """Of yarn."""


@dataclass(frozen=True, slots=True)
class GlmConfig(ModelConfig):
    """The hyperparameters that conversion needs, checked."""

    architecture: str
    """Of llama.cpp."""
    groups: int
    """Key/value heads."""
    head_size: int
    rotary: int
    """Values of each head that are rotated."""
    base: float
    has_bias: bool
    """Of query, key and value."""
    is_tied: bool
    """Whether the embedding is the output matrix, too."""
    scaling: RopeScaling | None = None

    @property
    def has_post_norms(self) -> bool:
        """Whether attention and feed-forward network each have a norm behind them."""
        return self.architecture == _GLM4


def read_glm_config(file: ConfigFile) -> GlmConfig:
    """Check a ``config.json``.

    Raises:
        CorruptFileError: a value has the wrong type.
        UnsupportedModelError: llama.cpp computes no such architecture.
    """
    architecture = _architecture(file)
    rope = _rope(file)
    heads, hidden = file.positive_int("num_attention_heads"), file.positive_int("hidden_size")
    head_size = file.positive_int("head_dim") if file.raw.get("head_dim") is not None else hidden // heads
    config = GlmConfig(
        name=file.name,
        architecture=architecture,
        layers=file.positive_int("num_hidden_layers", MOST_LAYERS),
        hidden=hidden,
        ffn=file.positive_int("intermediate_size"),
        heads=heads,
        groups=file.positive_int("num_key_value_heads"),
        head_size=head_size,
        rotary=int(head_size * _number(file, rope, "partial_rotary_factor", _PARTIAL_ROTARY)),
        vocabulary=file.positive_int("vocab_size"),
        context=file.positive_int("max_position_embeddings", 1 << 24),
        epsilon=file.positive_number("rms_norm_eps"),
        base=_number(file, rope, "rope_theta", _BASE),
        has_bias=file.raw.get("attention_bias") is True,
        is_tied=file.raw.get("tie_word_embeddings") is True,
        scaling=_scaling(file, rope),
    )
    _check(file, config)
    return config


def hyperparameters(config: GlmConfig) -> Metadata:
    """Return the architecture's GGUF keys."""
    name = config.architecture
    keys: Metadata = {
        **config.metadata(name),
        f"{name}.attention.head_count_kv": config.groups,
        f"{name}.attention.layer_norm_rms_epsilon": config.epsilon,
        f"{name}.rope.dimension_count": config.rotary,
        f"{name}.rope.freq_base": config.base,
    }
    if config.heads * config.head_size != config.hidden:
        keys |= {f"{name}.attention.key_length": config.head_size, f"{name}.attention.value_length": config.head_size}
    if config.scaling:
        keys[f"{name}.rope.scaling.type"] = config.scaling.kind
        keys[f"{name}.rope.scaling.factor"] = config.scaling.factor
    if config.scaling and config.scaling.kind == "yarn":
        keys[f"{name}.rope.scaling.original_context_length"] = config.scaling.original_context
    return keys


def _architecture(file: ConfigFile) -> str:
    needed, architecture = _ARCHITECTURES[file.model_type]
    if file.architectures and needed not in file.architectures:
        raise UnsupportedModelError(
            file.path, f"architectures {list(file.architectures)} is not converted; of {file.model_type} only {needed}"
        )
    if "quantization_config" in file.raw:
        raise UnsupportedModelError(
            file.path, "its weights are packed (quantization_config); use the checkpoint that is not quantised"
        )
    return architecture


def _rope(file: ConfigFile) -> Mapping[str, object]:
    """Return the entries about positions: in one object since transformers 5, in two keys and an object before."""
    found: dict[str, object] = {}
    for key in ("rope_scaling", "rope_parameters"):
        value = file.raw.get(key)
        if value is not None and not isinstance(value, dict):
            raise CorruptFileError(file.path, f"{key} is {repr(value)[:80]} and must be an object")
        found |= value or {}
    return {**{key: file.raw[key] for key in ("rope_theta", "partial_rotary_factor") if key in file.raw}, **found}


def _number(file: ConfigFile, rope: Mapping[str, object], key: str, default: float) -> float:
    return ConfigFile(file.path, {key: rope.get(key, default)}).positive_number(key)


def _scaling(file: ConfigFile, rope: Mapping[str, object]) -> RopeScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind in ("default", None):
        return None
    if kind not in ("linear", "yarn") or rope.keys() & {"attention_factor", "mscale", "mscale_all_dim"}:
        raise UnsupportedModelError(
            file.path, f"rope_scaling {dict(rope)} is not converted; only linear and yarn with a factor are"
        )
    said = ConfigFile(file.path, {"original_max_position_embeddings": file.raw["max_position_embeddings"], **rope})
    return RopeScaling(
        str(kind), said.positive_number("factor"), said.positive_int("original_max_position_embeddings", 1 << 24)
    )


def _check(file: ConfigFile, config: GlmConfig) -> None:
    problems = (
        (
            file.raw.get("hidden_act", "silu") != "silu",
            f"hidden_act is {file.raw.get('hidden_act')!r}, and must be silu",
        ),
        (bool(config.heads % config.groups), "num_key_value_heads does not divide num_attention_heads"),
        (
            config.architecture == _CHATGLM and config.heads * config.head_size != config.hidden,
            "num_attention_heads x head_dim is not hidden_size; llama.cpp has no such GLM",
        ),
        (
            config.rotary % 2 or not 0 < config.rotary <= config.head_size,
            f"{config.rotary} of {config.head_size} values of a head would be rotated; it must be a pair or more",
        ),
    )
    for wrong, what in problems:
        if wrong:
            raise UnsupportedModelError(file.path, what)


_PROMPTS = {"glm": FamilyName.GLM4, "glm4": FamilyName.GLM4_0414}
MODEL_TYPES = tuple(_PROMPTS)

_HEAD = "lm_head.weight"


@dataclass(frozen=True, slots=True)
class Glm:
    """A checkpoint of the family; see ``glmserve.convert.families.base.Family``."""

    file: ConfigFile
    config: GlmConfig
    name: FamilyName
    findings: tuple[str, ...]

    @property
    def layers(self) -> int:
        """Transformer layers."""
        return self.config.layers

    @property
    def heads_per_group(self) -> int:
        """Query heads that share a key/value group."""
        return self.config.heads // self.config.groups

    @property
    def ignored(self) -> frozenset[str]:
        """Rotary frequencies, and the copy of the embedding that some programs save for a tied output."""
        tied = (_HEAD,) if self.config.is_tied else ()
        rotary = (f"model.layers.{i}.self_attn.rotary_emb.inv_freq" for i in range(self.layers))
        return frozenset((*tied, *rotary, "model.rotary_emb.inv_freq"))

    def hyperparameters(self) -> Metadata:
        """Return the GGUF keys of name, architecture and shape."""
        return hyperparameters(self.config)

    def vocabulary(self) -> Metadata:
        """Return the GGUF keys of the tokenizer, the chat template and the prompt; raises ConvertError."""
        return glm4_vocabulary(self.file, self.config.vocabulary, self.name)

    def tensors(self) -> tuple[TensorMapping, ...]:
        """Return all tensors of the file, in order."""
        vocabulary = (self.config.vocabulary, self.config.hidden)
        head = () if self.config.is_tied else (TensorMapping(_HEAD, "output.weight", vocabulary),)
        return (
            TensorMapping("model.embed_tokens.weight", "token_embd.weight", vocabulary),
            *(tensor for layer in range(self.layers) for tensor in _layer_tensors(self.config, layer)),
            TensorMapping("model.norm.weight", "output_norm.weight", (self.config.hidden,)),
            *head,
        )

    def prepare(self, source: TensorSource) -> TensorSource:
        """Return the checkpoint's tensors, which the file takes as they are."""
        return source


def read_family(file: ConfigFile, family: FamilyName | None) -> Glm:
    """Read the configuration; see ``glmserve.convert.families.detect.detect``."""
    if family is not None and family not in _PROMPTS.values():
        raise UnsupportedModelError(file.path, f"this is a GLM-4, which cannot be converted as {family.value}")
    config, name = read_glm_config(file), family or _PROMPTS[file.model_type]
    why = "that was asked for" if family else f"model_type is {file.model_type}"
    return Glm(file, config, name, (f"family: {name.value}, because {why}", *_scaling_findings(config)))


def _scaling_findings(config: GlmConfig) -> tuple[str, ...]:
    if config.scaling is None:
        return ()
    return (f"rope: {config.scaling.kind} scaling by {config.scaling.factor:g}, because config.json has it",)


def _layer_tensors(config: GlmConfig, layer: int) -> Iterator[TensorMapping]:
    hidden, ffn = config.hidden, config.ffn
    queries, keys = config.heads * config.head_size, config.groups * config.head_size
    rows = (("q", queries), ("k", keys), ("v", keys))
    biases = rows if config.has_bias else ()
    # What is called the norm after attention stands in front of the feed-forward network.
    post = (
        ("post_self_attn_layernorm.weight", "post_attention_norm.weight", (hidden,)),
        ("post_mlp_layernorm.weight", "post_ffw_norm.weight", (hidden,)),
    )
    names: tuple[tuple[str, str, tuple[int, ...]], ...] = (
        ("input_layernorm.weight", "attn_norm.weight", (hidden,)),
        *((f"self_attn.{p}_proj.weight", f"attn_{p}.weight", (count, hidden)) for p, count in rows),
        *((f"self_attn.{p}_proj.bias", f"attn_{p}.bias", (count,)) for p, count in biases),
        ("self_attn.o_proj.weight", "attn_output.weight", (hidden, queries)),
        *(post if config.has_post_norms else ()),
        ("post_attention_layernorm.weight", "ffn_norm.weight", (hidden,)),
        ("mlp.gate_up_proj.weight", "ffn_up.weight", (2 * ffn, hidden)),
        ("mlp.down_proj.weight", "ffn_down.weight", (hidden, ffn)),
    )
    for source, target, shape in names:
        yield TensorMapping(f"model.layers.{layer}.{source}", f"blk.{layer}.{target}", shape, layer)
