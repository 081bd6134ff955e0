"""P-Tuning v2: a folder that holds a tuned prefix becomes a small file of keys and values for each layer.

The authors' ``PrefixEncoder`` holds, for each token of the prefix, the keys and values of all layers in one row, or
computes that row from another one (prefix_projection: a matrix, tanh, a matrix). Nothing of it depends on a prompt,
so it is computed here once. The keys carry no rotation; see the server's side for how they get into a cache.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glmserve.convert.checkpoint.config import ConfigFile
from glmserve.convert.checkpoint.reader import TensorInfo, TensorSource
from glmserve.convert.errors import CorruptFileError, MissingTensorError, TensorShapeError, UnknownTensorError
from glmserve.convert.families.base import TensorMapping
from glmserve.convert.families.chatglm import ARCHITECTURE, ChatGLMConfig
from glmserve.convert.gguf_format import PREFIX_LENGTH
from glmserve.convert.plan import ConversionPlan, plan_tensors
from glmserve.convert.quantize.recipes import QuantType

_ROOT = "transformer.prefix_encoder."
_EMBEDDING = _ROOT + "embedding.weight"
_FIRST, _SECOND = _ROOT + "trans.0", _ROOT + "trans.2"
_PROJECTION = tuple(f"{layer}.{part}" for layer in (_FIRST, _SECOND) for part in ("weight", "bias"))

_BLOCK_VALUES = 1 << 22
"""Values of a matrix that are in memory at once."""


class ComputedTensors:
    """A TensorSource over arrays."""

    def __init__(self, tensors: Mapping[str, NDArray[np.float32]], path: Path) -> None:
        """``path`` is where they come from, for messages."""
        self._tensors = tensors
        self._path = path

    def names(self) -> tuple[str, ...]:
        """Return the names of all tensors."""
        return tuple(self._tensors)

    def info(self, name: str) -> TensorInfo:
        """Describe a tensor; raises MissingTensorError."""
        if name not in self._tensors:
            raise MissingTensorError(name, self._path.parent)
        tensor = self._tensors[name]
        return TensorInfo(shape=tensor.shape, nbytes=tensor.nbytes, path=self._path)

    def read_rows(self, name: str, first: int, count: int) -> NDArray[np.float32]:
        """Return rows."""
        return self._tensors[name][first : first + count]


def is_prefix(source: TensorSource) -> bool:
    """Tell whether the weights are nothing but a tuned prefix."""
    names = source.names()
    return bool(names) and all(name.startswith(_ROOT) for name in names)


def plan_prefix(file: ConfigFile, config: ChatGLMConfig, source: TensorSource) -> ConversionPlan:
    """Compute the prefix and plan its file.

    Raises:
        CheckpointError: a tensor is missing or unknown, or was tuned for a model of another shape.
    """
    is_projected = _check_names(file, source)
    width = config.multi_query_group_num * config.kv_channels
    rows = _rows(source, 2 * config.num_layers * width, is_projected=is_projected)
    length = rows.shape[0]
    if file.raw.get("pre_seq_len") not in (None, length):
        raise CorruptFileError(file.path, f"pre_seq_len is {file.raw['pre_seq_len']}, and the prefix has {length} rows")
    parts = rows.reshape(length, config.num_layers, 2, width)
    tensors = {
        f"blk.{layer}.prefix_{kind}": np.ascontiguousarray(parts[:, layer, part])
        for layer in range(config.num_layers)
        for part, kind in enumerate("kv")
    }
    return plan_tensors(
        ComputedTensors(tensors, source.info(_EMBEDDING).path),
        tuple(TensorMapping(name, name, tensor.shape) for name, tensor in tensors.items()),
        QuantType.F32,
        {
            "general.architecture": ARCHITECTURE,
            "general.type": "prefix",
            "general.name": config.name,
            PREFIX_LENGTH: length,
        },
        (f"prefix: P-Tuning v2, {length} tokens{' computed by its projection' * is_projected}",),
    )


def _check_names(file: ConfigFile, source: TensorSource) -> bool:
    """Tell whether the prefix is computed by a projection, which the configuration must agree with."""
    names = set(source.names())
    is_projected = not names.isdisjoint(_PROJECTION)
    if file.raw.get("prefix_projection") is True and not is_projected:
        raise MissingTensorError(_PROJECTION[0], file.folder)
    unknown = tuple(sorted(names - {_EMBEDDING, *_PROJECTION}))
    if unknown:
        raise UnknownTensorError(unknown, file.folder)
    return is_projected


def _rows(source: TensorSource, width: int, *, is_projected: bool) -> NDArray[np.float32]:
    """One row for each token of the prefix: keys and values of all layers."""
    info = source.info(_EMBEDDING)
    if len(info.shape) != 2:
        raise TensorShapeError(_EMBEDDING, info.path, info.shape, (info.shape[0] if info.shape else 1, width))
    rows = source.read_rows(_EMBEDDING, 0, info.shape[0])
    if is_projected:
        rows = _linear(source, _SECOND, np.tanh(_linear(source, _FIRST, rows)))
    if rows.shape[1] != width:
        raise TensorShapeError(_EMBEDDING, info.path, rows.shape, (rows.shape[0], width))
    return rows


def _linear(source: TensorSource, name: str, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    weight, bias = source.info(name + ".weight"), source.info(name + ".bias")
    outputs = weight.shape[0] if weight.shape else 0
    if weight.shape != (outputs, rows.shape[1]):
        raise TensorShapeError(name + ".weight", weight.path, weight.shape, (outputs, rows.shape[1]))
    if bias.shape != (outputs,):
        raise TensorShapeError(name + ".bias", bias.path, bias.shape, (outputs,))
    result = np.repeat(source.read_rows(name + ".bias", 0, 1), rows.shape[0], axis=0)
    step = max(1, _BLOCK_VALUES // rows.shape[1])
    for first in range(0, outputs, step):
        count = min(step, outputs - first)
        result[:, first : first + count] += rows @ source.read_rows(name + ".weight", first, count).T
    return result
