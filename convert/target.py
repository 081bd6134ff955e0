"""Whether a file may be written under a name: only regular files are replaced, and none by accident."""

import hashlib
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from glmserve.convert.errors import OutputError
from glmserve.convert.gguf.atomic_file import check_regular
from glmserve.convert.gguf_keys import ORIGIN
from glmserve.convert.plan import ConversionPlan

_HEAD_BYTES = 1 << 16
"""The key stands before the vocabulary, within the first kilobytes."""
_DIGEST = 64
"""Characters."""


def origin_of(plan: ConversionPlan) -> str:
    """Return a digest of a plan's input: the names and shapes of its tensors, and three rows of each.

    It is the same for each type of weights, and for .bin and safetensors files of the same values.

    Raises:
        CheckpointError: a row cannot be read.
    """
    digest = hashlib.sha256()
    for job, tensor in zip(plan.jobs, plan.tensors, strict=True):
        digest.update(f"{tensor.name} {tensor.shape}\n".encode())
        for row in sorted({0, job.rows // 2, job.rows - 1} if job.rows else ()):
            digest.update(plan.source.read_rows(job.source, row, 1).tobytes())
    return digest.hexdigest()


def check_target(path: Path, inputs: Iterable[Path], origin: str, *, force: bool) -> None:
    """Check that a conversion may write ``path``.

    Args:
        path: the file.
        inputs: files and folders that the conversion reads.
        origin: of what is converted; see ``origin_of``.
        force: whether a file with another origin may be replaced.

    Raises:
        OutputError: it may not; the message says why.
    """
    try:
        check_regular(path)
        if not path.exists():
            return
        if any(path.samefile(file) for file in _files(inputs)):
            raise OutputError(f"{path} is one of the files that are converted; choose another name")
        if not force and stored_origin(path) != origin:
            raise OutputError(
                f"{path} exists and was not made from this source; choose another name, or replace it with --force"
            )
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error


def _files(inputs: Iterable[Path]) -> Iterator[Path]:
    for path in inputs:
        if path.is_dir():
            # A converted file may lie beside its source; it is none.
            yield from (file for file in path.rglob("*") if file.is_file() and file.suffix not in (".gguf", ".part"))
        elif path.exists():
            yield path


def stored_origin(path: Path) -> str:
    """Return the origin that a file tells; empty where it tells none. Raises OSError."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    key = ORIGIN.encode()
    before = struct.pack("<Q", len(key)) + key + struct.pack("<IQ", 8, _DIGEST)
    at = head.find(before)
    return head[at + len(before) :][:_DIGEST].decode("ascii", "replace") if at >= 0 else ""
