"""Writes a small model with the first layers of a large one, for measurements that hold for the large one.

The layers of a model are alike but for their types: a recipe such as q4_k_m gives some of them more bits. The small
model has one layer of each kind.
"""

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from glmserve.engine.gguf.gguf_header import GgufHeader, HeaderError, TensorEntry, read_header

MOST_LAYERS = 3
"""A recipe gives two or three kinds of layers."""

_FIXED = struct.Struct("<4sIQQ")
"""Magic, version, number of tensors and number of keys."""
_PREFIX = "blk."


@dataclass(frozen=True, slots=True)
class FirstLayers:
    """The tensors of the small model, in the order of the file."""

    tensors: tuple[tuple[str, TensorEntry], ...]
    """With their names in the small model."""
    layers: int


def type_mix(header: GgufHeader) -> str:
    """Return text that is equal for files whose tensors have the same types and shapes."""
    kinds = {(_suffix(tensor), tensor.type.name, tensor.shape) for tensor in header.tensors}
    return "\n".join(f"{suffix} {kind} {shape}" for suffix, kind, shape in sorted(kinds))


def choose_layers(header: GgufHeader, most: int = MOST_LAYERS) -> FirstLayers:
    """Choose the first layer of each kind, at most ``most`` layers."""
    kinds: dict[frozenset[tuple[str, str, tuple[int, ...]]], int] = {}
    for layer, tensors in sorted(_by_layer(header).items()):
        kinds.setdefault(frozenset((_suffix(t), t.type.name, t.shape) for t in tensors), layer)
    number_of = {layer: number for number, layer in enumerate(sorted(kinds.values())[:most])}
    return FirstLayers(tuple(_renamed(header, number_of)), len(number_of))


def _by_layer(header: GgufHeader) -> dict[int, list[TensorEntry]]:
    layers: dict[int, list[TensorEntry]] = {}
    for tensor in header.tensors:
        if (layer := _layer(tensor)) is not None:
            layers.setdefault(layer, []).append(tensor)
    return layers


def _layer(tensor: TensorEntry) -> int | None:
    number = tensor.name.removeprefix(_PREFIX).partition(".")[0]
    return int(number) if tensor.name.startswith(_PREFIX) and number.isdecimal() else None


def _suffix(tensor: TensorEntry) -> str:
    return tensor.name if _layer(tensor) is None else tensor.name.removeprefix(_PREFIX).partition(".")[2]


def _renamed(header: GgufHeader, number_of: dict[int, int]) -> Iterator[tuple[str, TensorEntry]]:
    for tensor in header.tensors:
        layer = _layer(tensor)
        if layer is None:
            yield tensor.name, tensor
        elif layer in number_of:
            yield f"{_PREFIX}{number_of[layer]}.{_suffix(tensor)}", tensor


def write_first_layers(path: Path, target: BinaryIO) -> int:
    """Write the small model of ``path`` to ``target``; return its number of layers.

    Raises:
        HeaderError: the file cannot be read, or does not say its number of layers in the usual way.
        OSError: there is no room.
    """
    header = read_header(path)
    chosen = choose_layers(header)
    alignment = int(header.metadata.get("general.alignment", 32))  # type: ignore[arg-type]  # the reader checked it
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        magic, version, _, keys = _FIXED.unpack_from(data)
        metadata = _with_layers(data[_FIXED.size : header.metadata_end], header, chosen.layers)
        target.write(_FIXED.pack(magic, version, len(chosen.tensors), keys) + metadata)
        offset = 0
        for name, tensor in chosen.tensors:
            target.write(_entry(name, replace(tensor, offset=offset)))
            offset += tensor.nbytes + -tensor.nbytes % alignment
        target.write(b"\0" * (-target.tell() % alignment))
        for _, tensor in chosen.tensors:
            target.write(data[tensor.offset : tensor.offset + tensor.nbytes])
            target.write(b"\0" * (-tensor.nbytes % alignment))
    target.flush()
    return chosen.layers


def _with_layers(metadata: bytes, header: GgufHeader, layers: int) -> bytes:
    """Replace the number of layers in the bytes of all keys and values."""
    key = f"{header.metadata.get('general.architecture')}.block_count"
    of_32_bits = 4
    before = struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", of_32_bits)
    if metadata.count(before) != 1:
        raise HeaderError(f"does not say {key} once, as a 32-bit number")
    start = metadata.index(before) + len(before)
    return metadata[:start] + struct.pack("<I", layers) + metadata[start + 4 :]


def _entry(name: str, tensor: TensorEntry) -> bytes:
    dimensions = tuple(reversed(tensor.shape))
    return (
        struct.pack("<Q", len(name.encode()))
        + name.encode()
        + struct.pack(f"<I{len(dimensions)}Q", len(dimensions), *dimensions)
        + struct.pack("<IQ", tensor.type, tensor.offset)
    )
