"""A small random BERT as GGUF, and what it computes, in numpy."""

import math
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

LAYERS, WIDTH, HEADS, FEED_FORWARD, CONTEXT = 2, 32, 4, 64, 48
MEAN, FIRST = 1, 2
"""Poolings: enum llama_pooling_type of llama.h."""
_EPSILON = 1e-12
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_WORDS = ("▁a", "▁cat", "▁sat", "▁on", "▁mat", "s", "ting", "▁，", "▁你", "▁好", "▁!")
VOCABULARY = (*_SPECIAL, *_WORDS)
UNKNOWN, CLS, SEP = 1, 2, 3

Array = NDArray[np.float32]
_erf = np.vectorize(math.erf, otypes=[np.float32])


@dataclass(frozen=True)
class RandomBert:
    """Weights by their names in GGUF."""

    weights: dict[str, Array]
    pooling: int = MEAN

    def embed(self, ids: tuple[int, ...]) -> Array:
        """Return the vector of one input, of length 1."""
        w = self.weights
        x = w["token_embd.weight"][list(ids)] + w["position_embd.weight"][: len(ids)] + w["token_types.weight"][0]
        x = self._norm("token_embd_norm", x)
        for layer in range(LAYERS):
            block = f"blk.{layer}"
            x = self._norm(f"{block}.attn_output_norm", x + self._attention(block, x))
            inner = self._linear(f"{block}.ffn_up", x)
            inner = 0.5 * inner * (1 + _erf(inner / np.sqrt(2)))
            x = self._norm(f"{block}.layer_output_norm", x + self._linear(f"{block}.ffn_down", inner))
        pooled = x.mean(0) if self.pooling == MEAN else x[0]
        vector: Array = (pooled / np.linalg.norm(pooled)).astype(np.float32)
        return vector

    def write(self, path: Path) -> Path:
        """Write it as the converters of other projects do."""
        writer = gguf.GGUFWriter(path, "bert")
        writer.add_name("random bert")
        writer.add_block_count(LAYERS)
        writer.add_context_length(CONTEXT)
        writer.add_embedding_length(WIDTH)
        writer.add_feed_forward_length(FEED_FORWARD)
        writer.add_head_count(HEADS)
        writer.add_layer_norm_eps(_EPSILON)
        writer.add_causal_attention(False)
        if self.pooling:
            writer.add_pooling_type(gguf.PoolingType(self.pooling))
        writer.add_tokenizer_model("bert")
        writer.add_token_list(list(VOCABULARY))
        writer.add_token_types([3 if piece in _SPECIAL else 1 for piece in VOCABULARY])
        writer.add_token_type_count(2)
        writer.add_pad_token_id(0)
        writer.add_unk_token_id(UNKNOWN)
        writer.add_bos_token_id(CLS)
        writer.add_sep_token_id(SEP)
        for name, weight in self.weights.items():
            writer.add_tensor(name, weight)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    def _attention(self, block: str, x: Array) -> Array:
        def heads(name: str) -> Array:
            rows: Array = self._linear(f"{block}.{name}", x).reshape(len(x), HEADS, -1).transpose(1, 0, 2)
            return rows

        scores = heads("attn_q") @ heads("attn_k").transpose(0, 2, 1) / np.sqrt(WIDTH // HEADS)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (weights / weights.sum(-1, keepdims=True)) @ heads("attn_v")
        return self._linear(f"{block}.attn_output", mixed.transpose(1, 0, 2).reshape(len(x), WIDTH))

    def _linear(self, name: str, x: Array) -> Array:
        rows: Array = x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]
        return rows

    def _norm(self, name: str, x: Array) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + _EPSILON)
        rows: Array = scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]
        return rows


def random_bert(seed: int = 0, pooling: int = MEAN) -> RandomBert:
    """Return one with weights of about the size that trained ones have."""
    random = np.random.default_rng(seed)
    shapes = {
        "token_embd": (len(VOCABULARY), WIDTH),
        "position_embd": (CONTEXT, WIDTH),
        "token_types": (2, WIDTH),
    }
    weights = {f"{name}.weight": random.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    linear, norms = {}, ["token_embd_norm"]
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            linear[f"{block}.{name}"] = (WIDTH, WIDTH)
        linear[f"{block}.ffn_up"] = (FEED_FORWARD, WIDTH)
        linear[f"{block}.ffn_down"] = (WIDTH, FEED_FORWARD)
        norms += [f"{block}.attn_output_norm", f"{block}.layer_output_norm"]
    for name, shape in linear.items():
        weights[f"{name}.weight"] = random.normal(0, 0.3, shape).astype(np.float32)
        weights[f"{name}.bias"] = random.normal(0, 0.1, shape[0]).astype(np.float32)
    for name in norms:
        weights[f"{name}.weight"] = random.normal(1, 0.1, WIDTH).astype(np.float32)
        weights[f"{name}.bias"] = random.normal(0, 0.1, WIDTH).astype(np.float32)
    return RandomBert(weights, pooling)
