"""The header of a safetensors file: which tensor lies where.

A file is 8 bytes (little-endian length of the header), the header (JSON), and the data. The header is checked
against the file before anybody relies on it.
"""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from glmserve.convert.checkpoint.foreign_content import START_BYTES, check_start
from glmserve.convert.checkpoint.raw_tensor import BITS, StoredTensor, bytes_of
from glmserve.convert.errors import CorruptFileError, MissingFileError

MAX_HEADER_BYTES = 100_000_000
"""The limit of the format; a longer one means that the file is something else."""


def read_header(path: Path) -> dict[str, StoredTensor]:
    """Return the tensors of a safetensors file by name.

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
