"""Small random Baichuan checkpoints, and what their authors' mathematics makes of a prompt, in numpy."""

import io
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import sentencepiece
from numpy.typing import NDArray

from tests.support.chatglm2_checkpoint import Weights, write_safetensors

Array = NDArray[np.float64]

USER_ID, ASSISTANT_ID = 6, 7
EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class Shape:
    """Hyperparameters. Five heads: the slopes of ALiBi are irregular where their number is no power of two."""

    hidden: int = 160
    heads: int = 5
    layers: int = 40
    ffn: int = 224
    vocab: int = 512
    second: bool = False
    """Baichuan2."""

    @property
    def head_size(self) -> int:
        return self.hidden // self.heads


ALIBI = Shape()
ROTARY = Shape(layers=32)
ALIBI_2 = Shape(second=True)


def make_weights(shape: Shape, seed: int) -> Weights:
    """Random weights that float16 holds exactly; attention is far from uniform."""
    rng = np.random.Generator(np.random.PCG64(seed))

    def normal(*size: int, scale: float, mean: float = 0.0) -> NDArray[np.float32]:
        values = mean + scale * rng.standard_normal(size, dtype=np.float32)
        return values.astype(np.float16).astype(np.float32)

    hidden, ffn = shape.hidden, shape.ffn
    weights = {"model.embed_tokens.weight": normal(shape.vocab, hidden, scale=1.0)}
    for i in range(shape.layers):
        layer = f"model.layers.{i}."
        weights |= {
            layer + "input_layernorm.weight": normal(hidden, scale=0.1, mean=1.0),
            layer + "self_attn.W_pack.weight": normal(3 * hidden, hidden, scale=(1.5 / hidden) ** 0.5),
            layer + "self_attn.o_proj.weight": normal(hidden, hidden, scale=(4 * hidden) ** -0.5),
            layer + "post_attention_layernorm.weight": normal(hidden, scale=0.1, mean=1.0),
            layer + "mlp.gate_proj.weight": normal(ffn, hidden, scale=hidden**-0.5),
            layer + "mlp.up_proj.weight": normal(ffn, hidden, scale=hidden**-0.5),
            layer + "mlp.down_proj.weight": normal(hidden, ffn, scale=(4 * ffn) ** -0.5),
        }
    weights["model.norm.weight"] = normal(hidden, scale=0.1, mean=1.0)
    head = normal(shape.vocab, hidden, scale=3 * hidden**-0.5)
    if shape.second:  # rows of very different lengths, so that normalising them shows
        head *= rng.choice(np.array([0.5, 1.0, 2.0], np.float32), (shape.vocab, 1))
    weights["lm_head.weight"] = head
    return weights


def make_config(shape: Shape) -> dict[str, object]:
    """Return config.json as baichuan-inc spells it."""
    config: dict[str, object] = {
        "model_type": "baichuan",
        "architectures": ["BaichuanForCausalLM"],
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.ffn,
        "model_max_length": 4096,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "rms_norm_eps": EPSILON,
        "tie_word_embeddings": False,
        "vocab_size": shape.vocab,
    }
    return config | {"z_loss_weight": 0} if shape.second else config


def write_checkpoint(
    folder: Path, shape: Shape, weights: Weights, *, dtype: str = "F32", tokenizer: bytes | None = None
) -> Path:
    """Write a checkpoint folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(make_config(shape)), encoding="utf-8")
    generation = {
        "user_token_id": 195 if tokenizer else USER_ID,
        "assistant_token_id": 196 if tokenizer else ASSISTANT_ID,
        "temperature": 0.3,
        "top_k": 5,
        "top_p": 0.85,
        "repetition_penalty": 1.1,
    }
    (folder / "generation_config.json").write_text(json.dumps(generation), encoding="utf-8")
    (folder / "tokenizer.model").write_bytes(tokenizer or small_tokenizer())
    write_safetensors(folder / "model.safetensors", weights, dtype)
    return folder


_TEXT = (
    "今天天气很好，我们去公园散步吧！（真的）北京是中国的首都；上海是最大的城市。",
    "The quick brown fox jumps over the lazy dog; sophisticated people stop, hop and shop at the top.",
    "<br> --- ``` <!-- comment --> def add(a, b): return a + b # 1234567890",
)


@cache
def small_tokenizer() -> bytes:
    """Train a SentencePiece model of 450 pieces with the settings of Baichuan's own."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_TEXT),
        model_writer=model,
        model_type="bpe",
        vocab_size=450,
        normalization_rule_name="nmt_nfkc",
        add_dummy_prefix=True,
        remove_extra_whitespaces=False,
        byte_fallback=True,
        hard_vocab_limit=False,
        user_defined_symbols=["<SEP>", "\n", "<br>", "<reserved_102>", "<reserved_103>", "```", "<!--", "-->", "---"],
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def reference_logits(shape: Shape, weights: Weights, prompt: list[int]) -> Array:
    """Compute the logits at every position in float64; shape [tokens, vocabulary]."""
    state: Array = weights["model.embed_tokens.weight"][prompt].astype(np.float64)
    for i in range(shape.layers):
        layer = {
            name.removeprefix(f"model.layers.{i}."): tensor.astype(np.float64)
            for name, tensor in weights.items()
            if name.startswith(f"model.layers.{i}.")
        }
        normed = _rms_norm(state, layer["input_layernorm.weight"])
        state = (
            state + _attention(shape, normed @ layer["self_attn.W_pack.weight"].T) @ layer["self_attn.o_proj.weight"].T
        )
        normed = _rms_norm(state, layer["post_attention_layernorm.weight"])
        gate = normed @ layer["mlp.gate_proj.weight"].T
        up = normed @ layer["mlp.up_proj.weight"].T
        state = state + (gate / (1 + np.exp(-gate)) * up) @ layer["mlp.down_proj.weight"].T
    head = weights["lm_head.weight"].astype(np.float64)
    if shape.second:
        head /= np.linalg.norm(head, axis=1, keepdims=True)
    logits: Array = _rms_norm(state, weights["model.norm.weight"].astype(np.float64)) @ head.T
    return logits


def _attention(shape: Shape, packed: Array) -> Array:
    tokens = len(packed)
    query, key, value = (
        part.reshape(tokens, shape.heads, shape.head_size).transpose(1, 0, 2) for part in np.split(packed, 3, axis=1)
    )
    if shape.layers == 32:
        query, key = _rotate(query), _rotate(key)
    scores = query @ key.transpose(0, 2, 1) / shape.head_size**0.5
    position = np.arange(tokens)
    if shape.layers == 40:
        scores += alibi_slopes(shape.heads)[:, None, None] * (position[None, :] - position[:, None])
    scores[:, position[None, :] > position[:, None]] = -np.inf
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    scores /= scores.sum(axis=-1, keepdims=True)
    mixed: Array = (scores @ value).transpose(1, 0, 2).reshape(tokens, -1)
    return mixed


def alibi_slopes(heads: int) -> Array:
    """The slopes of the ALiBi paper: a geometric series, and every other term of the next longer one for the rest."""
    power = 2 ** int(np.log2(heads))
    slopes = [2.0 ** (-8 * (i + 1) / power) for i in range(power)]
    slopes += [2.0 ** (-8 * (i + 1) / (2 * power)) for i in range(0, 2 * (heads - power), 2)]
    return np.array(slopes)


def _rotate(heads: Array) -> Array:
    """Rotate the first half of each head against the second, as the authors of the 7B models do."""
    tokens, size = heads.shape[1:]
    angles = np.arange(tokens)[:, None] * 10000.0 ** (-np.arange(0, size, 2) / size)
    first, second = np.split(heads, 2, axis=-1)
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def _rms_norm(values: Array, weight: Array) -> Array:
    normed: Array = values / np.sqrt((values**2).mean(axis=-1, keepdims=True) + EPSILON) * weight
    return normed
