"""A ``config.json`` of transformers' own GLM classes: its hyperparameters, checked, and as GGUF keys.

``glm`` is the arithmetic of ChatGLM under other names, so it becomes llama.cpp's ``chatglm``. ``glm4`` has two more
norms in each layer and is an architecture of its own there. Both rotate neighbouring values of a head, as llama.cpp
does, so no row changes its place.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from glmserve.convert.checkpoint.config import MOST_LAYERS, ConfigFile
from glmserve.convert.errors import CorruptFileError, UnsupportedModelError
from glmserve.convert.gguf_format import Metadata

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
class GlmConfig:
    """The hyperparameters that conversion needs, checked."""

    name: str
    architecture: str
    """Of llama.cpp."""
    layers: int
    hidden: int
    ffn: int
    heads: int
    groups: int
    """Key/value heads."""
    head_size: int
    rotary: int
    """Values of each head that are rotated."""
    vocabulary: int
    context: int
    epsilon: float
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
        UnsupportedModelError: llama.cpp computes no such variant.
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
        "general.architecture": name,
        "general.type": "model",
        "general.name": config.name,
        f"{name}.vocab_size": config.vocabulary,
        f"{name}.context_length": config.context,
        f"{name}.embedding_length": config.hidden,
        f"{name}.feed_forward_length": config.ffn,
        f"{name}.block_count": config.layers,
        f"{name}.attention.head_count": config.heads,
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
    """Return what is said of positions: in one object since transformers 5, in two keys and an object before."""
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
