"""Lazy tensors of a Hugging Face folder: rows are read on request.

Rows come by plain reads, not through a memory map: a file that is cut off while it is read is then an error
instead of a SIGBUS, and pages of the source do not count as resident memory.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from glmserve.convert.checkpoint.config import START_BYTES, check_start, read_json_object
from glmserve.convert.checkpoint.raw_tensor import BITS, READABLE, StoredTensor, bytes_of, read_exactly, to_float32
from glmserve.convert.checkpoint.torch_zip import read_shard
from glmserve.convert.errors import CorruptFileError, MissingFileError, MissingTensorError, TensorTypeError

MAX_HEADER_BYTES = 100_000_000
"""The limit of the format; a longer one means that the file is something else."""


def read_header(path: Path) -> dict[str, StoredTensor]:
    """Return the tensors of a safetensors file by name; the header is checked against the file.

    A file is 8 bytes (little-endian length of the header), the header (JSON), and the data.

    Raises:
        MissingFileError: there is no such file.
        CorruptFileError: the header makes no sense, or the file is shorter than the header says.
    """
    try:
        if path.exists() and not path.is_file():
            raise CorruptFileError(path, "it is no regular file")
        with path.open("rb") as file:
            size = path.stat().st_size
            start = file.read(START_BYTES)
            check_start(path, start)
            length = int.from_bytes(start[:8], "little")
            file.seek(8)
            if size < 8 or length > min(MAX_HEADER_BYTES, size - 8):
                raise CorruptFileError(path, "it does not start like a safetensors file")
            header = file.read(length)
    except FileNotFoundError as error:
        raise MissingFileError(path, "download it") from error
    tensors = dict(_parse(path, header, 8 + length))
    end = max((t.offset + t.nbytes for t in tensors.values()), default=0)
    if end > size:
        raise CorruptFileError(path, f"it has {size:,} bytes where its header asks for {end:,}")
    in_order = sorted(tensors.items(), key=lambda item: item[1].offset)
    for (_, before), (name, tensor) in pairwise(in_order):
        if tensor.offset < before.offset + before.nbytes:
            raise CorruptFileError(path, f"its header gives tensor {name} bytes of another one")
    return tensors


def _parse(path: Path, header: bytes, data_start: int) -> Iterator[tuple[str, StoredTensor]]:
    try:
        document: object = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(path, "its header is not JSON") from error
    if not isinstance(document, dict):
        raise CorruptFileError(path, "its header is not a JSON object")
    for name, entry in document.items():
        if name != "__metadata__":
            yield str(name), _stored(path, str(name), entry, data_start)


def _stored(path: Path, name: str, entry: object, data_start: int) -> StoredTensor:
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(begin), int(end)]}:
            pass
        case _:
            raise CorruptFileError(path, f"its header describes tensor {name} in no known way")
    if not all(isinstance(n, int) and n >= 0 for n in shape) or not 0 <= begin <= end:
        raise CorruptFileError(path, f"its header gives tensor {name} an impossible shape or place")
    # A type unknown here is rejected when the tensor is read, with a message about types.
    if dtype in BITS and bytes_of(dtype, tuple(shape)) != end - begin:
        raise CorruptFileError(path, f"its header gives tensor {name} a size that does not match its shape")
    return StoredTensor(path=path, dtype=dtype, shape=tuple(shape), offset=data_start + begin, nbytes=end - begin)


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
