"""A LoRA adapter and a P-Tuning prefix for any model file: random values, in all the types that are taken."""

from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from glmserve.engine.gguf.gguf_check import ModelFacts
from glmserve.engine.gguf.gguf_header import read_header

_TYPES = tuple(GGMLQuantizationType[name] for name in ("F32", "F16", "BF16", "Q8_0"))
_RANK = 32
"""A multiple of what Q8_0 keeps together."""
PREFIX_LENGTH = 3


def write_lora(path: Path, model: ModelFacts) -> Path:
    """On every matrix of the model, the embedding and the output too, as llama.cpp's own converter would write it."""
    random = np.random.default_rng(5)
    writer = gguf.GGUFWriter(path, model.architecture)
    writer.add_type("adapter")
    writer.add_name("random")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 8.0)
    matrices = [tensor for tensor in read_header(model.path).tensors if len(tensor.shape) == 2]
    for number, tensor in enumerate(matrices):
        rows, columns = tensor.shape
        shapes = ((_RANK, columns), (rows, _RANK))
        if tensor.name == "token_embd.weight":
            shapes = ((rows, _RANK), (columns, _RANK))
        for part, shape in zip("ab", shapes, strict=True):
            _add(writer, f"{tensor.name}.lora_{part}", random.normal(size=shape, scale=0.02), _TYPES[number % 4])
    return _close(writer, path)


def write_prefix(path: Path, model: ModelFacts) -> Path:
    """As `glmserve convert` writes it."""
    random = np.random.default_rng(6)
    writer = gguf.GGUFWriter(path, model.architecture)
    writer.add_type("prefix")
    writer.add_name("random")
    writer.add_uint32("glmserve.prefix.length", PREFIX_LENGTH)
    for layer in range(model.layers):
        for kind in "kv":
            values = random.normal(size=(PREFIX_LENGTH, model.kv_heads * model.head_size))
            _add(writer, f"blk.{layer}.prefix_{kind}", values, GGMLQuantizationType.F32)
    return _close(writer, path)


def _add(writer: gguf.GGUFWriter, name: str, values: NDArray[np.float64], kind: GGMLQuantizationType) -> None:
    writer.add_tensor(name, gguf.quants.quantize(values.astype(np.float32), kind), raw_dtype=kind)


def _close(writer: gguf.GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
