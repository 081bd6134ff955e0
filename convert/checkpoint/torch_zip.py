"""Finds the tensors of a ``.bin`` shard, the zip that ``torch.save`` writes, without unpacking or loading it.

The zip holds one pickle, ``NAME/data.pkl``, that says which tensors there are, and one uncompressed entry
``NAME/data/KEY`` for each storage. So a tensor lies at a known offset of the shard, like in a safetensors file. Names
of entries are only looked up, never used as paths.
"""

import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from glmserve.convert.checkpoint.config import START_BYTES, check_start
from glmserve.convert.checkpoint.raw_tensor import BITS, StoredTensor, bytes_of
from glmserve.convert.checkpoint.torch_pickle import ForbiddenPickle, TensorView, read_tensors
from glmserve.convert.errors import CorruptFileError, ForbiddenContentError, MissingFileError, UnsupportedFileError

_MAX_PICKLE_BYTES = 16_000_000
"""A shard of thousands of tensors has some hundred thousand bytes of pickle."""

_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_ENCRYPTED = 1
_LEGACY_START = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46"
"""A pickled magic number."""


def read_shard(path: Path) -> dict[str, StoredTensor]:
    """Return the tensors of a shard by name.

    Raises:
        MissingFileError: there is no such file.
        CorruptFileError: it is cut off, or contradicts itself.
        ForbiddenContentError: its pickle asks for more than tensors.
        UnsupportedFileError: it is laid out in a way that is not read.
    """
    try:
        _check_format(path)
        with zipfile.ZipFile(path) as archive:
            return _read_archive(path, archive)
    except FileNotFoundError as error:
        raise MissingFileError(path, "download it") from error
    # A ValueError is an offset above 2**63, or a name that is no UTF-8.
    except (zipfile.BadZipFile, EOFError, ValueError, OverflowError, NotImplementedError, struct.error) as error:
        raise CorruptFileError(path, "it is cut off, or not a file of weights") from error
    except OSError as error:
        raise CorruptFileError(path, f"it cannot be read ({error.strerror})") from error


def _check_format(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise CorruptFileError(path, "it is no regular file")
    with path.open("rb") as file:
        start = file.read(START_BYTES)
    check_start(path, start)
    if start.startswith(_LEGACY_START):
        raise UnsupportedFileError(
            path, "is in the format of torch before 1.6; load it with torch.load and save it again with torch.save"
        )


def _read_archive(path: Path, archive: zipfile.ZipFile) -> dict[str, StoredTensor]:
    entries = {info.filename: info for info in archive.infolist()}
    pickles = [name for name in entries if name.rpartition("/")[2] == "data.pkl"]
    if len(pickles) != 1:
        raise CorruptFileError(path, f"it is a zip with {len(pickles)} entries data.pkl where torch.save writes one")
    shard = _Shard(path, archive, entries, root=pickles[0].removesuffix("data.pkl"))
    if shard.has("byteorder") and shard.content("byteorder") != b"little":
        raise UnsupportedFileError(path, "holds big-endian numbers; save it again on a little-endian machine")
    program = shard.content("data.pkl")
    try:
        views = read_tensors(program)
    except ForbiddenPickle as error:
        raise ForbiddenContentError(path, str(error)) from error
    except ValueError as error:
        raise CorruptFileError(path, str(error)) from error
    return {name: shard.locate(name, view) for name, view in views.items()}


@dataclass(frozen=True, slots=True)
class _Shard:
    path: Path
    archive: zipfile.ZipFile
    entries: Mapping[str, zipfile.ZipInfo]
    root: str

    def has(self, entry: str) -> bool:
        return self.root + entry in self.entries

    def content(self, entry: str) -> bytes:
        """Read a small entry."""
        info = self._plain(entry)
        if info.file_size > _MAX_PICKLE_BYTES:
            raise CorruptFileError(self.path, f"its {info.filename} has {info.file_size:,} bytes")
        return self.archive.read(info)

    def locate(self, name: str, view: TensorView) -> StoredTensor:
        """Find the bytes of a tensor in the shard."""
        if not self.has(f"data/{view.storage.key}"):
            raise CorruptFileError(self.path, f"it lacks the values of tensor {name}")
        if len(view.shape) != len(view.strides) or view.offset < 0:
            raise CorruptFileError(self.path, f"it gives tensor {name} an impossible shape or place")
        if not view.is_contiguous:
            raise UnsupportedFileError(
                self.path, f"holds tensor {name} with gaps or transposed; save it again after tensor.contiguous()"
            )
        info = self._plain(f"data/{view.storage.key}")
        dtype = view.storage.dtype
        skipped, nbytes = view.offset * BITS[dtype] // 8, bytes_of(dtype, view.shape)
        if skipped + nbytes > info.file_size:
            raise CorruptFileError(self.path, f"it has {info.file_size:,} bytes for tensor {name}, which needs more")
        return StoredTensor(self.path, dtype, view.shape, self._data_start(info) + skipped, nbytes)

    def _plain(self, entry: str) -> zipfile.ZipInfo:
        info = self.entries[self.root + entry]
        plain = info.compress_type == zipfile.ZIP_STORED and info.compress_size == info.file_size
        if not plain or info.flag_bits & _ENCRYPTED:
            raise UnsupportedFileError(
                self.path,
                f"holds {info.filename} compressed, which torch.save never does; save it again with torch.save",
            )
        return info

    def _data_start(self, info: zipfile.ZipInfo) -> int:
        """Where an entry's bytes start: after its own header, whose lengths may differ from the directory's."""
        file = self.archive.fp
        if file is None:
            raise ValueError("the archive is closed")
        file.seek(info.header_offset)
        fields = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
        start = info.header_offset + _LOCAL_HEADER.size + int(fields[-2]) + int(fields[-1])
        if fields[0] != b"PK\x03\x04" or start + info.file_size > self.archive.start_dir:
            raise CorruptFileError(self.path, f"its directory misplaces {info.filename}")
        return start
