"""Lazy tensors of a Hugging Face folder: rows are read on request.

Rows come by plain reads, not through a memory map: a file that is cut off while it is read is then an error
instead of a SIGBUS, and pages of the source do not count as resident memory.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from glmserve.convert.checkpoint.config import read_json_object
from glmserve.convert.checkpoint.raw_tensor import BITS, READABLE, StoredTensor, read_exactly, to_float32
from glmserve.convert.checkpoint.safetensors import read_header
from glmserve.convert.checkpoint.torch_zip import read_shard
from glmserve.convert.errors import CorruptFileError, MissingFileError, MissingTensorError, TensorTypeError

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a folder may hold its weights."""

    single: str
    index: str
    read: Callable[[Path], dict[str, StoredTensor]]


_LAYOUTS = (
    _Layout(SINGLE_FILE, INDEX_FILE, read_header),
    _Layout("pytorch_model.bin", "pytorch_model.bin.index.json", read_shard),
)
"""The first one that a folder has is read: of the two formats, safetensors cannot ask for anything."""

_WRAPPERS = ("_orig_mod.", "module.", "base_model.model.")


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Name, type and shape of a tensor, known without reading its data."""

    shape: tuple[int, ...]
    nbytes: int
    """Bytes it occupies in the source."""
    path: Path
    """The file that holds it, for messages."""
    dtype: str = "F32"
    """Element type in the source, as safetensors spells it."""


class TensorSource(Protocol):
    """Tensors by name, however they are stored. Implementations are safe to read from several threads."""

    def names(self) -> tuple[str, ...]:
        """Return the names of all tensors."""
        ...

    def info(self, name: str) -> TensorInfo:
        """Describe a tensor.

        Raises:
            MissingTensorError: there is no such tensor.
        """
        ...

    def read_rows(self, name: str, first: int, count: int) -> NDArray[np.float32]:
        """Return rows ``first`` to ``first + count``, shape [count, columns]; a vector is one row.

        Raises:
            MissingTensorError: there is no such tensor.
            TensorTypeError: its element type cannot be read.
            CorruptFileError: its file ends too early.
        """
        ...


class StoredTensors:
    """A TensorSource over tensors whose places are known."""

    def __init__(self, folder: Path, tensors: Mapping[str, StoredTensor]) -> None:
        self._folder = folder
        self._tensors = tensors

    def names(self) -> tuple[str, ...]:
        """Return the names of all tensors, in the order of the files."""
        return tuple(self._tensors)

    def info(self, name: str) -> TensorInfo:
        """Describe a tensor; raises MissingTensorError."""
        stored = self._find(name)
        return TensorInfo(shape=stored.shape, nbytes=stored.nbytes, path=stored.path, dtype=stored.dtype)

    def read_rows(self, name: str, first: int, count: int) -> NDArray[np.float32]:
        """Return rows as float32; raises MissingTensorError, TensorTypeError, CorruptFileError."""
        stored = self._find(name)
        if stored.dtype not in READABLE:
            raise TensorTypeError(name, stored.path, stored.dtype)
        width = BITS[stored.dtype] // 8
        columns = stored.shape[-1] if stored.shape else 1
        raw = read_exactly(stored.path, stored.offset + first * columns * width, count * columns * width)
        return to_float32(raw, stored.dtype).reshape(count, columns)

    def _find(self, name: str) -> StoredTensor:
        try:
            return self._tensors[name]
        except KeyError:
            raise MissingTensorError(name, self._folder) from None


def open_checkpoint(folder: Path) -> TensorSource:
    """Open the weights of a checkpoint folder, reading no more than headers.

    Raises:
        MissingFileError: no weights, or a shard of the index is not there.
        CorruptFileError: an index or a header that makes no sense, or a shard shorter than its header says.
        UnsupportedFileError: a shard is laid out in a way that is not read.
        ForbiddenContentError: a shard asks to run something.
    """
    layout = next(iter(_layouts_in(folder)), None)
    if layout is None:
        raise MissingFileError(
            folder / SINGLE_FILE,
            "a checkpoint folder holds model.safetensors or pytorch_model.bin, or shards of one kind and their index",
        )
    index = folder / layout.index
    shards = _shards_of(index) if index.exists() else (layout.single,)
    tensors: dict[str, StoredTensor] = {}
    for shard in shards:
        if not (folder / shard).exists():
            raise MissingFileError(folder / shard, "it is one of the shards in the index: download it")
        tensors.update(layout.read(folder / shard))
    return StoredTensors(folder, _without_wrapper(tensors))


def _without_wrapper(tensors: Mapping[str, StoredTensor]) -> Mapping[str, StoredTensor]:
    """Remove the name prefixes that training programs add: PyTorch's data parallelism and compiler, and PEFT."""
    for prefix in (*_WRAPPERS, *_WRAPPERS):
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def open_file(path: Path) -> TensorSource:
    """Open one file of weights, safetensors or ``.bin`` by its name; raises as ``open_checkpoint`` does."""
    read = read_header if path.suffix == ".safetensors" else read_shard
    return StoredTensors(path.parent, read(path))


def weights_findings(folder: Path) -> tuple[str, ...]:
    """Say which weights are read where a folder has them twice."""
    if len(_layouts_in(folder)) > 1:
        return ("weights: safetensors, because the folder has them beside .bin files of the same model",)
    return ()


def _layouts_in(folder: Path) -> tuple[_Layout, ...]:
    return tuple(way for way in _LAYOUTS if (folder / way.index).exists() or (folder / way.single).exists())


def _shards_of(index: Path) -> tuple[str, ...]:
    weight_map = read_json_object(index, "download it").get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CorruptFileError(index, "it has no weight_map")
    shards = dict.fromkeys(str(shard) for shard in weight_map.values())
    for shard in shards:
        # A name with a path in it would read files outside the folder.
        if Path(shard).name != shard:
            raise CorruptFileError(index, f"{shard!r} is not the name of a file in this folder")
    return tuple(shards)
