"""Writes ``.bin`` shards as ``torch.save`` lays them out, without torch, and broken ones that it never would."""

import json
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_STORAGES = {"F32": "FloatStorage", "F16": "HalfStorage", "BF16": "BFloat16Storage", "I8": "CharStorage"}


@dataclass(frozen=True)
class Stored:
    """A tensor and how it is stored; by default row after row in a storage of its own."""

    values: NDArray[np.generic]
    dtype: str = "F32"
    offset: int = 0
    """Values in the storage before the tensor's own."""
    strides: tuple[int, ...] | None = None


def write_bin(
    path: Path, tensors: Mapping[str, Stored], *, compression: int = zipfile.ZIP_STORED, pickle: bytes | None = None
) -> Path:
    """Write one shard; ``pickle`` replaces what describes the tensors."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickle or pickled(tensors))
        archive.writestr("archive/byteorder", "little")
        for key, tensor in enumerate(tensors.values()):
            archive.writestr(f"archive/data/{key}", bytes(_width(tensor) * tensor.offset) + encode(tensor))
        archive.writestr("archive/version", "3\n")
    return path


def write_bin_shards(folder: Path, tensors: Mapping[str, Stored], shards: int) -> None:
    """Write shards and their index."""
    names = list(tensors)
    weight_map: dict[str, str] = {}
    for number in range(shards):
        file = f"pytorch_model-{number + 1:05}-of-{shards:05}.bin"
        part = {name: tensors[name] for name in names[number::shards]}
        write_bin(folder / file, part)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index), encoding="utf-8")


def encode(tensor: Stored) -> bytes:
    """Return the values as they are stored."""
    if tensor.dtype == "BF16":
        return (np.ascontiguousarray(tensor.values, np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
    return tensor.values.astype({"F32": "<f4", "F16": "<f2", "I8": "i1"}[tensor.dtype]).tobytes()


def pickled(tensors: Mapping[str, Stored]) -> bytes:
    """Return the pickle that describes the tensors."""
    out = b"\x80\x02}("
    for key, (name, tensor) in enumerate(tensors.items()):
        out += _text(name) + _tensor(str(key), tensor)
    return out + b"u."


def _tensor(key: str, tensor: Stored) -> bytes:
    shape = tensor.values.shape
    strides = tensor.strides or tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))
    storage = b"(" + _text("storage") + f"ctorch\n{_STORAGES[tensor.dtype]}\n".encode()
    storage += _text(key) + _text("cpu") + _number(tensor.values.size) + b"tQ"
    arguments = (
        storage + _number(tensor.offset) + _numbers(shape) + _numbers(strides) + b"\x89ccollections\nOrderedDict\n)R"
    )
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR"


def _width(tensor: Stored) -> int:
    return {"F32": 4, "F16": 2, "BF16": 2, "I8": 1}[tensor.dtype]


def _text(text: str) -> bytes:
    data = text.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _number(number: int) -> bytes:
    return b"J" + struct.pack("<i", number)


def _numbers(numbers: Sequence[int]) -> bytes:
    return b"(" + b"".join(map(_number, numbers)) + b"t"
