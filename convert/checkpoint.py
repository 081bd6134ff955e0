"""Lazy tensors of a Hugging Face folder: nothing is read before it is asked for, and then only those rows.

Rows come by plain reads, not through a memory map: a file that is cut off while it is read is then an error
instead of a SIGBUS, and pages of the source do not count as resident memory.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from convert.errors import CorruptFileError, MissingFileError, MissingTensorError, TensorTypeError
from convert.safetensors import StoredTensor, read_header

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

_BYTES_PER_VALUE = {"F32": 4, "F16": 2, "BF16": 2}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """What is known of a tensor without reading it."""

    shape: tuple[int, ...]
    nbytes: int
    """Bytes it occupies in the source."""
    path: Path
    """The file that holds it, for messages."""


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


class SafetensorsFolder:
    """A TensorSource over one or many safetensors files whose headers have been read."""

    def __init__(self, folder: Path, tensors: Mapping[str, StoredTensor]) -> None:
        self._folder = folder
        self._tensors = tensors

    def names(self) -> tuple[str, ...]:
        """Return the names of all tensors, in the order of the files."""
        return tuple(self._tensors)

    def info(self, name: str) -> TensorInfo:
        """Describe a tensor; raises MissingTensorError."""
        stored = self._find(name)
        return TensorInfo(shape=stored.shape, nbytes=stored.nbytes, path=stored.path)

    def read_rows(self, name: str, first: int, count: int) -> NDArray[np.float32]:
        """Return rows as float32; raises MissingTensorError, TensorTypeError, CorruptFileError."""
        stored = self._find(name)
        width = _BYTES_PER_VALUE.get(stored.dtype)
        if width is None:
            raise TensorTypeError(name, stored.path, stored.dtype)
        columns = stored.shape[-1] if stored.shape else 1
        raw = _read_exactly(stored.path, stored.offset + first * columns * width, count * columns * width)
        return _to_float32(raw, stored.dtype).reshape(count, columns)

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
    """
    if (folder / INDEX_FILE).exists():
        shards = _shards_of(folder / INDEX_FILE)
    elif (folder / SINGLE_FILE).exists():
        shards = (SINGLE_FILE,)
    else:
        raise MissingFileError(folder / SINGLE_FILE, _no_weights_advice(folder))
    tensors: dict[str, StoredTensor] = {}
    for shard in shards:
        if not (folder / shard).exists():
            raise MissingFileError(folder / shard, "it is one of the shards in the index: download it")
        tensors.update(read_header(folder / shard))
    return SafetensorsFolder(folder, tensors)


def _no_weights_advice(folder: Path) -> str:
    if any(folder.glob("*.bin")):
        return "there are only .bin files, which are not read: save the checkpoint as safetensors first"
    return "a checkpoint folder holds model.safetensors, or its shards and their index"


def _shards_of(index: Path) -> tuple[str, ...]:
    try:
        document: object = json.loads(index.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CorruptFileError(index, f"it is not JSON ({error})") from error
    weight_map = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise CorruptFileError(index, "it has no weight_map")
    shards = dict.fromkeys(str(shard) for shard in weight_map.values())
    for shard in shards:
        # A name with a path in it would read files outside the folder.
        if Path(shard).name != shard:
            raise CorruptFileError(index, f"{shard!r} is not the name of a file in this folder")
    return tuple(shards)


def _read_exactly(path: Path, offset: int, nbytes: int) -> NDArray[np.uint8]:
    # A handle of its own for each read keeps threads independent, and costs microseconds per megabytes read.
    buffer = np.empty(nbytes, dtype=np.uint8)
    view = buffer.data
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            while view:
                got = file.readinto(view)
                if not got:
                    raise CorruptFileError(path, f"it ends at byte {offset + nbytes - len(view)}")
                view = view[got:]
    except OSError as error:
        raise CorruptFileError(path, f"it cannot be read ({error.strerror})") from error
    return buffer


def _to_float32(raw: NDArray[np.uint8], dtype: str) -> NDArray[np.float32]:
    if dtype == "F32":
        return raw.view("<f4").astype(np.float32, copy=False)
    if dtype == "F16":
        return raw.view("<f2").astype(np.float32)
    widened = raw.view("<u2").astype(np.uint32)  # BF16 is the upper half of a float32
    widened <<= 16
    return widened.view(np.float32)
