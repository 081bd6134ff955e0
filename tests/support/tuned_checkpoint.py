"""Small random LoRA adapters and P-Tuning prefixes, and what they mean."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from tests.reference.numpy_chatglm2 import Prefix
from tests.support.chatglm2_checkpoint import SMALL, Weights, make_config, write_safetensors
from tests.support.torch_bin import Stored, write_bin

RANK, ALPHA = 6, 20.0
MODULES = ("self_attention.query_key_value", "self_attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h")
WIDTH = SMALL.layers * 2 * SMALL.groups * SMALL.kv_channels
ROOT = "transformer.prefix_encoder."


def make_lora(weights: Weights, modules: tuple[str, ...] = MODULES, rank: int = RANK) -> Weights:
    rng = np.random.default_rng(11)
    lora: Weights = {}
    for layer in range(SMALL.layers):
        for module in modules:
            rows, columns = weights[f"transformer.encoder.layers.{layer}.{module}.weight"].shape
            name = f"base_model.model.transformer.encoder.layers.{layer}.{module}"
            lora[f"{name}.lora_A.weight"] = rng.normal(size=(rank, columns), scale=0.05).astype(np.float32)
            lora[f"{name}.lora_B.weight"] = rng.normal(size=(rows, rank), scale=0.05).astype(np.float32)
    return lora


def write_adapter(
    folder: Path,
    lora: Weights,
    config: Mapping[str, object] = MappingProxyType({}),
    *,
    as_bin: bool = False,
    dtype: str = "F32",
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "bias": "none", "fan_in_fan_out": False, **config}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    if as_bin:
        write_bin(folder / "adapter_model.bin", {name: Stored(tensor, dtype) for name, tensor in lora.items()})
    else:
        write_safetensors(folder / "adapter_model.safetensors", lora, dtype)
    return folder


def tuned(weights: Weights, lora: Weights, scale: float) -> Weights:
    """The equation, in float64: W + scale * B A."""
    result = dict(weights)
    for name, down in lora.items():
        if ".lora_A." in name:
            up = lora[name.replace("lora_A", "lora_B")]
            base = name.removeprefix("base_model.model.").replace(".lora_A", "")
            change = scale * up.astype(np.float64) @ down.astype(np.float64)
            result[base] = (weights[base].astype(np.float64) + change).astype(np.float32)
    return result


def tensors_of(length: int, *, projection: bool) -> Weights:
    """What PrefixEncoder holds; values are about as large as those of the model's own keys."""
    rng = np.random.default_rng(length)
    rows = rng.normal(size=(length, WIDTH)).astype(np.float32)
    if not projection:
        return {ROOT + "embedding.weight": rows}
    return {
        ROOT + "embedding.weight": rows,
        ROOT + "trans.0.weight": rng.normal(size=(SMALL.hidden, WIDTH), scale=WIDTH**-0.5).astype(np.float32),
        ROOT + "trans.0.bias": rng.normal(size=SMALL.hidden).astype(np.float32),
        ROOT + "trans.2.weight": rng.normal(size=(WIDTH, SMALL.hidden), scale=SMALL.hidden**-0.5).astype(np.float32),
        ROOT + "trans.2.bias": rng.normal(size=WIDTH).astype(np.float32),
    }


def meant(tensors: Weights) -> Prefix:
    """As the authors reshape it: [tokens, 2 * layers, groups, channels], keys and values of a layer in turn."""
    rows = tensors[ROOT + "embedding.weight"].astype(np.float64)
    if ROOT + "trans.0.weight" in tensors:
        inner = np.tanh(rows @ tensors[ROOT + "trans.0.weight"].T.astype(np.float64) + tensors[ROOT + "trans.0.bias"])
        rows = inner @ tensors[ROOT + "trans.2.weight"].T.astype(np.float64) + tensors[ROOT + "trans.2.bias"]
    past = rows.reshape(len(rows), 2 * SMALL.layers, SMALL.groups, SMALL.kv_channels).transpose(1, 0, 2, 3)
    return Prefix(keys=past[0::2], values=past[1::2])


def write_prefix_folder(folder: Path, tensors: Weights, *, as_bin: bool = False, **config: object) -> Path:
    folder.mkdir(parents=True)
    length = len(tensors[ROOT + "embedding.weight"])
    tuned = {"pre_seq_len": length, "prefix_projection": len(tensors) > 1, **config}
    (folder / "config.json").write_text(json.dumps(make_config(SMALL) | tuned))
    if as_bin:
        write_bin(folder / "pytorch_model.bin", {name: Stored(tensor) for name, tensor in tensors.items()})
    else:
        write_safetensors(folder / "model.safetensors", tensors)
    return folder
