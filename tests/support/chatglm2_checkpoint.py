"""Small random ChatGLM2 checkpoints, the same on every machine, without torch."""

import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import sentencepiece
from numpy.typing import NDArray

Weights = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Shape:
    """Hyperparameters; heads are 128 wide as in the real model."""

    hidden: int = 512
    heads: int = 4
    groups: int = 2
    layers: int = 3
    ffn: int = 224
    vocab: int = 512
    context: int = 2048
    kv_channels: int = 128
    rope_ratio: float = 1.0


SMALL = Shape()
SMALL_32K = replace(SMALL, rope_ratio=16.0)


def make_weights(shape: Shape, seed: int) -> Weights:
    """Random weights that float16 holds exactly.

    Scales are such that attention is far from uniform (scores of deviation about 1.5) and logits are of order 3:
    a wrong group, pair or half shows.
    """
    rng = np.random.Generator(np.random.PCG64(seed))

    def normal(*size: int, scale: float, mean: float = 0.0) -> NDArray[np.float32]:
        values = mean + scale * rng.standard_normal(size, dtype=np.float32)
        return values.astype(np.float16).astype(np.float32)

    hidden, ffn = shape.hidden, shape.ffn
    qkv = (shape.heads + 2 * shape.groups) * shape.kv_channels
    weights = {"transformer.embedding.word_embeddings.weight": normal(shape.vocab, hidden, scale=1.0)}
    for i in range(shape.layers):
        layer = f"transformer.encoder.layers.{i}."
        weights |= {
            layer + "input_layernorm.weight": normal(hidden, scale=0.1, mean=1.0),
            layer + "self_attention.query_key_value.weight": normal(qkv, hidden, scale=(1.5 / hidden) ** 0.5),
            layer + "self_attention.query_key_value.bias": normal(qkv, scale=0.3),
            layer + "self_attention.dense.weight": normal(hidden, hidden, scale=hidden**-0.5),
            layer + "post_attention_layernorm.weight": normal(hidden, scale=0.1, mean=1.0),
            layer + "mlp.dense_h_to_4h.weight": normal(2 * ffn, hidden, scale=hidden**-0.5),
            layer + "mlp.dense_4h_to_h.weight": normal(hidden, ffn, scale=ffn**-0.5),
        }
    weights["transformer.encoder.final_layernorm.weight"] = normal(hidden, scale=0.1, mean=1.0)
    weights["transformer.output_layer.weight"] = normal(shape.vocab, hidden, scale=3 * hidden**-0.5)
    return weights


def fingerprint(weights: Weights) -> str:
    """Hash of all values, so that a recorded reference is only compared with its own weights."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(weights[name], dtype="<f4").tobytes())
    return digest.hexdigest()


def make_config(shape: Shape) -> dict[str, object]:
    """Return config.json as THUDM/chatglm2-6b spells it."""
    config: dict[str, object] = {
        "_name_or_path": "test/chatglm2-small",
        "model_type": "chatglm",
        "architectures": ["ChatGLMModel"],
        "add_bias_linear": False,
        "add_qkv_bias": True,
        "apply_residual_connection_post_layernorm": False,
        "ffn_hidden_size": shape.ffn,
        "hidden_size": shape.hidden,
        "kv_channels": shape.kv_channels,
        "layernorm_epsilon": 1e-5,
        "multi_query_attention": True,
        "multi_query_group_num": shape.groups,
        "num_attention_heads": shape.heads,
        "num_layers": shape.layers,
        "original_rope": True,
        "padded_vocab_size": shape.vocab,
        "post_layer_norm": True,
        "rmsnorm": True,
        "seq_length": shape.context,
        "tie_word_embeddings": False,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    return config if shape.rope_ratio == 1.0 else config | {"rope_ratio": shape.rope_ratio}


def write_checkpoint(
    folder: Path,
    shape: Shape,
    weights: Weights,
    *,
    tokenizer: bytes | None = None,
    dtype: str = "F32",
    shards: int = 1,
) -> Path:
    """Write a checkpoint folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(make_config(shape)), encoding="utf-8")
    (folder / "tokenizer.model").write_bytes(small_tokenizer() if tokenizer is None else tokenizer)
    if shards == 1:
        write_safetensors(folder / "model.safetensors", weights, dtype)
        return folder
    weight_map: dict[str, str] = {}
    names = list(weights)
    for number in range(shards):
        file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        part = {name: weights[name] for name in names[number::shards]}
        write_safetensors(folder / file, part, dtype)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def write_safetensors(path: Path, tensors: Weights, dtype: str = "F32") -> None:
    """Write one safetensors file."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    blobs: list[bytes] = []
    offset = 0
    for name, tensor in tensors.items():
        blob = _encode(tensor, dtype)
        end = offset + len(blob)
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        blobs.append(blob)
        offset = end
    head = json.dumps(header).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head + b"".join(blobs))


def _encode(tensor: NDArray[np.float32], dtype: str) -> bytes:
    if dtype == "BF16":
        return (np.ascontiguousarray(tensor).view(np.uint32) >> 16).astype("<u2").tobytes()
    return tensor.astype({"F32": "<f4", "F16": "<f2"}[dtype]).tobytes()


_TEXT = (
    "[Round 1]\n\n问：你好，请介绍一下你自己。\n\n答：我是一个小模型，只用来测试。",
    "The quick brown fox jumps over the lazy dog; sophisticated people stop, hop and shop at the top.",
    "北京是中国的首都，上海是最大的城市。今天天气很好，我们去公园散步吧！",
    "def add(a, b):\n    return a + b  # 1234567890",
)


@cache
def small_tokenizer() -> bytes:
    """Train a SentencePiece model of 420 pieces with the settings of ChatGLM2's own."""
    return train_tokenizer(_TEXT, 420)


def train_tokenizer(lines: Iterable[str], size: int, *, add_dummy_prefix: bool = True) -> bytes:
    """Train a SentencePiece model with the settings of ChatGLM2's own; CodeGeeX2's has no dummy prefix."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(line.replace("\n", " ") for line in lines),
        model_writer=model,
        model_type="bpe",
        vocab_size=size,
        normalization_rule_name="identity",
        add_dummy_prefix=add_dummy_prefix,
        remove_extra_whitespaces=False,
        byte_fallback=True,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        hard_vocab_limit=False,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()
