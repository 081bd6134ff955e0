"""GLM-4 in Hugging Face's own layout: tensors by both names, and the folder as a member of its family."""

from collections.abc import Iterator
from dataclasses import dataclass

from glmserve.convert.checkpoint.config import ConfigFile
from glmserve.convert.checkpoint.reader import TensorSource
from glmserve.convert.errors import UnsupportedModelError
from glmserve.convert.families.base import TensorMapping
from glmserve.convert.families.glm_config import GlmConfig, hyperparameters, read_glm_config
from glmserve.convert.gguf_format import FamilyName, Metadata
from glmserve.convert.vocab.glm_folder import glm4_vocabulary

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
