"""ChatGLM2's mathematics in plain numpy and float64, written from the equations.

Slow and short: for tests that need what no recorded reference has, such as keys and values that no token made. It is
itself held to the recorded logits of transformers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.support.chatglm2_checkpoint import Shape, Weights

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Rotation:
    """Angles of positions."""

    base: float = 10000.0
    ratio: float = 1.0
    """Positions are divided by it."""


@dataclass(frozen=True)
class Prefix:
    """Keys and values in front of every layer's own, as P-Tuning v2 has them: not rotated."""

    keys: NDArray[np.float32]
    """Shape [layers, length, groups, channels]."""
    values: NDArray[np.float32]


def forward(
    weights: Weights,
    shape: Shape,
    prompt: Sequence[int],
    *,
    prefix: Prefix | None = None,
    rotation: Rotation | None = None,
    epsilon: float = 1e-5,
) -> Array:
    """Return the logits at every position of ``prompt``, shape [tokens, vocabulary]."""
    turn = rotation or Rotation(ratio=shape.rope_ratio)
    hidden = weights["transformer.embedding.word_embeddings.weight"][list(prompt)].astype(np.float64)
    for layer in range(shape.layers):
        w = {
            name.removeprefix(f"transformer.encoder.layers.{layer}."): tensor.astype(np.float64)
            for name, tensor in weights.items()
            if name.startswith(f"transformer.encoder.layers.{layer}.")
        }
        normed = _rms_norm(hidden, w["input_layernorm.weight"], epsilon)
        extra = (prefix.keys[layer], prefix.values[layer]) if prefix else None
        hidden = hidden + _attention(normed, w, shape, turn, extra)
        normed = _rms_norm(hidden, w["post_attention_layernorm.weight"], epsilon)
        gate, up = np.split(normed @ w["mlp.dense_h_to_4h.weight"].T, 2, axis=1)
        hidden = hidden + (gate / (1 + np.exp(-gate)) * up) @ w["mlp.dense_4h_to_h.weight"].T
    final = _rms_norm(hidden, weights["transformer.encoder.final_layernorm.weight"].astype(np.float64), epsilon)
    logits: Array = final @ weights["transformer.output_layer.weight"].astype(np.float64).T
    return logits


def _attention(
    hidden: Array,
    w: dict[str, Array],
    shape: Shape,
    turn: Rotation,
    extra: tuple[NDArray[np.float32], NDArray[np.float32]] | None,
) -> Array:
    tokens, size = hidden.shape[0], shape.kv_channels
    fused = hidden @ w["self_attention.query_key_value.weight"].T + w["self_attention.query_key_value.bias"]
    heads = fused.reshape(tokens, shape.heads + 2 * shape.groups, size)
    queries = _rotate(heads[:, : shape.heads], turn)
    keys = _rotate(heads[:, shape.heads : shape.heads + shape.groups], turn)
    values = heads[:, shape.heads + shape.groups :]
    seen = np.tril(np.ones((tokens, tokens), bool))
    if extra is not None:
        keys, values = np.concatenate([extra[0], keys]), np.concatenate([extra[1], values])
        seen = np.concatenate([np.ones((tokens, len(extra[0])), bool), seen], axis=1)
    share = shape.heads // shape.groups
    outputs = []
    for head in range(shape.heads):
        scores = queries[:, head] @ keys[:, head // share].T / np.sqrt(size)
        scores = np.where(seen, scores, -np.inf)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        outputs.append(weights / weights.sum(axis=1, keepdims=True) @ values[:, head // share])
    mixed: Array = np.concatenate(outputs, axis=1) @ w["self_attention.dense.weight"].T
    return mixed


def _rotate(heads: Array, turn: Rotation) -> Array:
    """Turn the pairs of the first half of each head by an angle that grows with the position."""
    rotated = heads.shape[-1] // 2
    positions = np.arange(heads.shape[0]) / turn.ratio
    angles = positions[:, None] * turn.base ** (-np.arange(0, rotated, 2) / rotated)
    pairs = heads[..., :rotated:2] + 1j * heads[..., 1:rotated:2]
    turned = pairs * np.exp(1j * angles)[:, None, :]
    result: Array = heads.copy()
    result[..., :rotated:2], result[..., 1:rotated:2] = turned.real, turned.imag
    return result


def _rms_norm(hidden: Array, weight: Array, epsilon: float) -> Array:
    normed: Array = hidden / np.sqrt((hidden**2).mean(axis=1, keepdims=True) + epsilon) * weight
    return normed
