"""Importance matrices: how much each column of a weight matters, as llama.cpp's ``llama-imatrix`` measured it.

Two formats: GGUF with the tensors ``NAME.in_sum2`` and ``NAME.counts``, and the older ``.dat``. What is made of
the numbers, and which tensors go without, is what ``llama-quantize`` does.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glmserve.convert.checkpoint.config import check_file
from glmserve.convert.errors import CheckpointError, ImatrixError
from glmserve.convert.gguf_format import BoundedReader, Metadata

Importance = NDArray[np.float32]

_SUMS, _COUNTS = ".in_sum2", ".counts"


@dataclass(frozen=True, slots=True)
class ImportanceMatrix:
    """Column weights by the GGUF name of their tensor."""

    path: Path
    entries: Mapping[str, Importance]
    datasets: tuple[str, ...] = ()
    chunks: int = 0
    """Pieces of text that it was measured on."""

    def weights_for(self, tensor: str, columns: int) -> Importance | None:
        """Return the weights of a tensor's columns, or None where the file has none.

        Raises:
            ImatrixError: it has some for another number of columns.
        """
        found = self.entries.get(tensor)
        if found is None or found.size == columns:
            return found
        if tensor == "token_embd.weight":  # measured where it is multiplied with, if at all: never of this size
            return None
        raise ImatrixError(
            self.path, f"it has {found.size} values for {tensor}, which has {columns} columns; it is of another model"
        )

    def metadata(self) -> Metadata:
        """Return the keys that ``llama-quantize`` leaves behind."""
        keys: Metadata = {
            "quantize.imatrix.file": self.path.name,
            "quantize.imatrix.entries_count": len(self.entries),
            "quantize.imatrix.chunks_count": self.chunks,
        }
        if self.datasets:
            keys["quantize.imatrix.dataset"] = self.datasets[0]
        return keys


def read_imatrix(path: Path) -> ImportanceMatrix:
    """Read either format.

    Raises:
        CheckpointError: it is a pointer of Git LFS, or a web page.
        ImatrixError: there is no such file, it is no importance matrix, or it holds values that are not finite.
    """
    try:
        check_file(path)
        with path.open("rb") as file:
            is_gguf = file.read(4) == b"GGUF"
        matrix = _read_gguf(path) if is_gguf else _read_legacy(path)
    except (ImatrixError, CheckpointError):
        raise
    except OSError as error:
        raise ImatrixError(path, f"it cannot be read ({error.strerror})") from error
    except Exception as error:
        # The GGUF reader trusts the header's lengths, so a bad file can raise nearly anything in it.
        raise ImatrixError(path, f"it is no importance matrix ({error}); make it with llama-imatrix") from error
    for name, values in matrix.entries.items():
        if not np.isfinite(values).all():
            raise ImatrixError(path, f"it holds values for {name} that are not finite; make it again")
    return matrix


def _read_gguf(path: Path) -> ImportanceMatrix:
    reader = BoundedReader(path)
    tensors = {str(tensor.name): tensor.data for tensor in reader.tensors}
    names = [name.removesuffix(_SUMS) for name in tensors if name.endswith(_SUMS)]
    if not names:
        raise ValueError(f"no tensor of it is called NAME{_SUMS}")
    datasets, chunks = reader.get_field("imatrix.datasets"), reader.get_field("imatrix.chunk_count")
    return ImportanceMatrix(
        path=path,
        entries={name: _mean(tensors[name + _SUMS], tensors[name + _COUNTS]) for name in names},
        datasets=tuple(datasets.contents()) if datasets else (),
        chunks=int(chunks.contents()) if chunks else 0,
    )


def _mean(sums: Importance, counts: Importance) -> Importance:
    per_count = np.asarray(sums, np.float32).reshape(counts.size, -1)
    counted = np.asarray(counts, np.float32).reshape(-1, 1)
    mean = np.ones_like(per_count)  # what was never reached counts as much as anything else
    np.divide(per_count, counted, out=mean, where=counted > 0)
    return mean.reshape(-1)


def _read_legacy(path: Path) -> ImportanceMatrix:
    data = path.read_bytes()
    (count,) = struct.unpack_from("<i", data)
    position = 4
    entries: dict[str, Importance] = {}
    if count < 1:
        raise ValueError("it has no entries")
    for _ in range(count):
        name, values, position = _legacy_entry(data, position)
        entries[name] = values
    rest = tuple(_legacy_rest(data, position))
    chunks = next((part for part in rest if isinstance(part, int)), 0)
    return ImportanceMatrix(path, entries, tuple(part for part in rest if isinstance(part, str)), chunks)


def _legacy_entry(data: bytes, position: int) -> tuple[str, Importance, int]:
    (length,) = struct.unpack_from("<i", data, position)
    name, position = _text(data, position + 4, length), position + 4 + length
    calls, size = struct.unpack_from("<ii", data, position)
    position += 8
    if size < 1 or position + 4 * size > len(data):
        raise ValueError(f"the entry {name!r} is cut off")
    values = np.frombuffer(data, "<f4", size, position).astype(np.float32)
    return name, values / np.float32(calls) if calls > 0 else values, position + 4 * size


def _legacy_rest(data: bytes, position: int) -> Iterator[int | str]:
    """Yield the number of chunks and the name of the text, where they are given."""
    if position + 8 <= len(data):
        chunks, length = struct.unpack_from("<ii", data, position)
        yield int(chunks)
        yield _text(data, position + 8, length)


def _text(data: bytes, position: int, length: int) -> str:
    if not 0 <= length <= len(data) - position:
        raise ValueError("a name is longer than the file")
    return data[position : position + length].decode("utf-8")
