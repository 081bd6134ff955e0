"""Looks at LoRA adapters and P-Tuning prefixes before they are used, against the model that they are used with.

llama.cpp compares the shapes of an adapter with those of the model and checks little else: a value or a tensor of
another type, a rank of nothing or a third dimension reach assertions, when the file is loaded or at the first request.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType
from numpy.typing import NDArray

from glmserve.engine.errors import ModelLoadError
from glmserve.engine.gguf.gguf_check import ModelFacts, metadata_number, open_header
from glmserve.engine.gguf.gguf_header import GgufHeader, TensorEntry, read_header

LENGTH_KEY = "glmserve.prefix.length"

_ALPHA = "adapter.lora.alpha"
_MAX_ALPHA = 1e6
_PARTS = (".lora_a", ".lora_b")
_EMBEDDING = "token_embd.weight"

_LORA_TYPES = frozenset(GGMLQuantizationType[name] for name in ("F32", "F16", "BF16", "Q8_0"))
"""Types that llama.cpp's own converter writes."""

_Q8_0_BLOCK = 34
"""Bytes of a scale as float16 and 32 numbers."""

_STEP = _Q8_0_BLOCK << 18
"""Bytes that are looked at together, a multiple of the size of every type above."""

_AGAIN = "convert it again"

Shape = tuple[int, ...]


def check_adapter(path: Path, model: ModelFacts) -> None:
    """Check that llama.cpp can load ``path`` as a LoRA adapter of ``model``, and can compute with it.

    Raises:
        ModelLoadError: with one line that says what is wrong with the file and what to do.
    """
    header = open_header(path)
    _check_kind(path, header, model, "adapter")
    if header.metadata.get("adapter.type") != "lora":
        raise ModelLoadError(f"{path.name}: is not a LoRA adapter; other kinds are not supported")
    # An activated LoRA applies only after certain tokens; llama.cpp leaves that to the program around it.
    if any(key.startswith("adapter.alora.") for key in header.metadata):
        raise ModelLoadError(f"{path.name}: is an activated LoRA (aLoRA), which is not supported")
    alpha = header.metadata.get(_ALPHA)
    usable = isinstance(alpha, float) and header.types[_ALPHA] is GGUFValueType.FLOAT32 and abs(alpha) <= _MAX_ALPHA
    if not usable:
        raise ModelLoadError(f"{path.name}: metadata {_ALPHA} is not a 32-bit number within {_MAX_ALPHA:g}; {_AGAIN}")
    tensors = _by_name(path, header)
    _check_pairs(path, tensors, model)
    _check_values(path, tensors.values())


def check_prefix(path: Path, model: ModelFacts) -> tuple[int, Mapping[str, TensorEntry]]:
    """Check that ``path`` is a prefix for a model of this shape; return its length in tokens and its tensors by name.

    Raises:
        ModelLoadError: with one line that says what is wrong with the file and what to do.
    """
    header = open_header(path)
    length = metadata_number(path, header.metadata, LENGTH_KEY)
    _check_kind(path, header, model, "prefix")
    tensors = _by_name(path, header)
    names = {f"blk.{layer}.prefix_{kind}" for layer in range(model.layers) for kind in "kv"}
    shape = (length, model.kv_heads * model.head_size)
    if length > model.context_train:
        raise ModelLoadError(f"{path.name}: has {length} tokens, more than the context of {model.path.name}; {_AGAIN}")
    if set(tensors) != names or any(tensor.shape != shape for tensor in tensors.values()):
        raise ModelLoadError(f"{path.name}: this prefix was tuned for a model of another shape than {model.path.name}")
    if other := [name for name, tensor in tensors.items() if tensor.type is not GGMLQuantizationType.F32]:
        raise ModelLoadError(f"{path.name}: tensor {other[0]} is not of type F32; {_AGAIN}")
    _check_values(path, tensors.values())
    return length, tensors


def _check_kind(path: Path, header: GgufHeader, model: ModelFacts, wanted: str) -> None:
    kind, architecture = header.metadata.get("general.type"), header.metadata.get("general.architecture")
    if kind != wanted:
        found = f"general.type is {str(kind)[:40]!r}" if kind else "it has no general.type"
        raise ModelLoadError(f"{path.name}: is not of the kind {wanted} ({found}); {_AGAIN}")
    if architecture != model.architecture:
        raise ModelLoadError(
            f"{path.name}: was made for the architecture {str(architecture)[:40]!r}, and {model.path.name} is "
            f"{model.architecture!r}"
        )


def _by_name(path: Path, header: GgufHeader) -> Mapping[str, TensorEntry]:
    tensors, size = {tensor.name: tensor for tensor in header.tensors}, path.stat().st_size
    if not tensors or len(tensors) != len(header.tensors):
        raise ModelLoadError(f"{path.name}: holds no tensors, or one twice; {_AGAIN}")
    for tensor in tensors.values():
        if tensor.offset + tensor.nbytes > size:
            raise ModelLoadError(f"{path.name}: cut off inside tensor {tensor.name}; copy or convert it again")
    return tensors


def _check_pairs(path: Path, tensors: Mapping[str, TensorEntry], model: ModelFacts) -> None:
    matrices = {tensor.name: tensor.shape for tensor in read_header(model.path).tensors if len(tensor.shape) == 2}
    for name, tensor in tensors.items():
        base, part = name[:-7], name[-7:]
        other = base + _PARTS[part == _PARTS[0]]
        if part not in _PARTS or other not in tensors:
            raise ModelLoadError(f"{path.name}: tensor {name} is no half of a LoRA whose other half is there; {_AGAIN}")
        if tensor.type not in _LORA_TYPES:
            raise ModelLoadError(f"{path.name}: tensor {name} is of the type {tensor.type.name}; {_AGAIN}")
        if base not in matrices:
            raise ModelLoadError(f"{path.name}: changes {base}, which {model.path.name} does not have; wrong model?")
        if part == _PARTS[0] and not _fits(base, matrices[base], tensor.shape, tensors[other].shape):
            raise ModelLoadError(
                f"{path.name}: has {list(tensor.shape)} and {list(tensors[other].shape)} for {base}, which is "
                f"{list(matrices[base])} in {model.path.name}; it was made for a model of another shape"
            )


def _fits(name: str, matrix: Shape, down: Shape, up: Shape) -> bool:
    """Tell whether a pair belongs to a matrix of ``matrix`` rows and columns; of an embedding it is transposed."""
    rows, columns = matrix
    if len(down) != 2 or len(up) != 2:
        return False
    if name == _EMBEDDING:
        return (down[0], up[0]) == (rows, columns) and down[1] == up[1] and 1 <= up[1] <= min(matrix)
    return (up[0], down[1]) == (rows, columns) and down[0] == up[1] and 1 <= up[1] <= min(matrix)


def _check_values(path: Path, tensors: Iterable[TensorEntry]) -> None:
    """Reject values that are not finite: every answer after them would be noise."""
    for tensor in tensors:
        for start in range(0, tensor.nbytes, _STEP):
            count = min(_STEP, tensor.nbytes - start)
            if not _is_finite(np.fromfile(path, np.uint8, count, offset=tensor.offset + start), tensor.type):
                raise ModelLoadError(f"{path.name}: tensor {tensor.name} holds values that are not finite; {_AGAIN}")


def _is_finite(raw: NDArray[np.uint8], kind: GGMLQuantizationType) -> bool:
    if kind is GGMLQuantizationType.F32:
        return bool(np.isfinite(raw.view("<f4")).all())
    if kind is GGMLQuantizationType.BF16:
        return bool(((raw.view("<u2") & 0x7F80) != 0x7F80).all())
    halves = raw if kind is GGMLQuantizationType.F16 else raw.reshape(-1, _Q8_0_BLOCK)[:, :2].copy()
    return math.isfinite(float(np.abs(halves.reshape(-1).view("<f2")).max(initial=0)))
