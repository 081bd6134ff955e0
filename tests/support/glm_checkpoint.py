"""Small random checkpoints of transformers' GLM classes, the same on every machine, without torch."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.support.chatglm2_checkpoint import Weights, write_safetensors


@dataclass(frozen=True, slots=True)
class GlmShape:
    """Hyperparameters as config.json has them; heads are 128 wide as in the real models."""

    model_type: str = "glm4"
    hidden: int = 512
    heads: int = 4
    groups: int = 2
    head_size: int = 128
    layers: int = 3
    ffn: int = 224
    vocab: int = 512
    context: int = 4096
    epsilon: float = 1e-5
    base: float = 10000.0
    partial: float = 0.5
    bias: bool = False
    tied: bool = False
    yarn: float = 0.0
    """Factor of the scaling; 0 without one."""

    @property
    def post_norms(self) -> bool:
        return self.model_type == "glm4"


# As glm-4-9b-chat-hf has it: biases, its epsilon, and a base multiplied by 500.
GLM = GlmShape(model_type="glm", epsilon=1.5625e-07, base=5e6, bias=True)
GLM_EDGE = GlmShape(model_type="glm", heads=8, groups=4, head_size=64, tied=True, partial=1.0)
GLM4 = GlmShape()
# With all that config.json may say beside: heads that are wider together than the model, biases, more context.
GLM4_YARN = GlmShape(hidden=384, bias=True, yarn=4.0, context=1024)


def make_glm_weights(shape: GlmShape, seed: int) -> Weights:
    """Random weights that float16 holds exactly, with attention far from uniform and logits of order 3."""
    rng = np.random.Generator(np.random.PCG64(seed))

    def normal(*size: int, scale: float, mean: float = 0.0) -> NDArray[np.float32]:
        values = mean + scale * rng.standard_normal(size, dtype=np.float32)
        return values.astype(np.float16).astype(np.float32)

    hidden, ffn = shape.hidden, shape.ffn
    rows = {
        "q": shape.heads * shape.head_size,
        "k": shape.groups * shape.head_size,
        "v": shape.groups * shape.head_size,
    }
    weights = {"model.embed_tokens.weight": normal(shape.vocab, hidden, scale=1.0)}
    for i in range(shape.layers):
        layer = f"model.layers.{i}."
        norms = ["input_layernorm", "post_attention_layernorm"]
        norms += ["post_self_attn_layernorm", "post_mlp_layernorm"] if shape.post_norms else []
        weights |= {f"{layer}{name}.weight": normal(hidden, scale=0.1, mean=1.0) for name in norms}
        for part, count in rows.items():
            weights[f"{layer}self_attn.{part}_proj.weight"] = normal(count, hidden, scale=(1.5 / hidden) ** 0.5)
            if shape.bias:
                weights[f"{layer}self_attn.{part}_proj.bias"] = normal(count, scale=0.3)
        weights |= {
            f"{layer}self_attn.o_proj.weight": normal(hidden, rows["q"], scale=rows["q"] ** -0.5),
            f"{layer}mlp.gate_up_proj.weight": normal(2 * ffn, hidden, scale=hidden**-0.5),
            f"{layer}mlp.down_proj.weight": normal(hidden, ffn, scale=ffn**-0.5),
        }
    weights["model.norm.weight"] = normal(hidden, scale=0.1, mean=1.0)
    if shape.tied:
        weights["model.embed_tokens.weight"] *= np.float32(2.0**-3)
    else:
        weights["lm_head.weight"] = normal(shape.vocab, hidden, scale=3 * hidden**-0.5)
    return weights


def make_glm_config(shape: GlmShape) -> dict[str, object]:
    """Return config.json as transformers 4 wrote it for the published models."""
    config: dict[str, object] = {
        "architectures": ["Glm4ForCausalLM" if shape.post_norms else "GlmForCausalLM"],
        "attention_bias": shape.bias,
        "attention_dropout": 0.0,
        "eos_token_id": [1, 2],
        "head_dim": shape.head_size,
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "initializer_range": 0.02,
        "intermediate_size": shape.ffn,
        "max_position_embeddings": shape.context,
        "model_type": shape.model_type,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.groups,
        "pad_token_id": 0,
        "partial_rotary_factor": shape.partial,
        "rms_norm_eps": shape.epsilon,
        "rope_theta": shape.base,
        "tie_word_embeddings": shape.tied,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.52.0.dev0",
        "use_cache": True,
        "vocab_size": shape.vocab,
    }
    if shape.yarn:
        config["rope_scaling"] = {
            "type": "yarn", "factor": shape.yarn, "original_max_position_embeddings": shape.context,
        }  # fmt: skip
    return config


def write_glm_checkpoint(
    folder: Path, shape: GlmShape, weights: Weights, tokenizer: str = "", *, dtype: str = "F32"
) -> Path:
    """Write a checkpoint folder and return it; ``tokenizer`` is the text of tokenizer.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(make_glm_config(shape)), encoding="utf-8")
    if tokenizer:
        (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    write_safetensors(folder / "model.safetensors", weights, dtype)
    return folder
