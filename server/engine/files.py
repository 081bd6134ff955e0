"""Model files and other files of an engine: fingerprints without reading gigabytes, and written whole or not at all."""

import hashlib
import json
import math
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from glmserve.engine.config import EngineConfig

_HEAD = 4 * 2**20
"""Bytes read of the start of a file: all of the metadata and the vocabulary, and the list of tensors."""
_BLOCK = 4096
_BLOCKS = 64
"""Blocks read of the rest, evenly spread."""
_ABANDONED_S = 3600.0
"""Age of an unfinished file that no process writes any more."""


def file_fingerprint(path: Path) -> str:
    """Return text that changes with size, time of change, header or, most probably, any other content of a file.

    Raises:
        OSError: it cannot be read.
    """
    return _fingerprint(path, with_time=True)


def content_fingerprint(path: Path) -> str:
    """Return text that changes with size, header or, most probably, any other content of a file. Raises OSError."""
    return _fingerprint(path, with_time=False)


def _fingerprint(path: Path, *, with_time: bool) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        digest.update(f"{status.st_size} {status.st_mtime_ns if with_time else '-'} ".encode())
        digest.update(file.read(_HEAD))
        for start in _spread(status.st_size):
            file.seek(start)
            digest.update(file.read(_BLOCK))
    return digest.hexdigest()


def adapter_fingerprints(config: EngineConfig) -> Mapping[str, str]:
    """Return a fingerprint of each adapter, and of the model itself under the empty name. Raises OSError."""
    model = file_fingerprint(config.model_path)
    tuned = {
        adapter.name: " ".join(
            [model, *(file_fingerprint(file) if file else "-" for file in (adapter.lora, adapter.prefix))]
        )
        for adapter in config.adapters
    }
    return {"": model, **tuned}


def _spread(size: int) -> Iterator[int]:
    """Yield where blocks start: over all of the file behind its head, its last bytes included."""
    room = size - _HEAD - _BLOCK
    if room > 0:
        yield from (_HEAD + room * block // (_BLOCKS - 1) for block in range(_BLOCKS))
    elif size > _HEAD:
        yield _HEAD


_MOST_JSON_BYTES = 65536


def read_json(path: Path) -> dict[str, object]:
    """Return the object in a small file of this server's.

    Raises:
        OSError, ValueError: it cannot be read, or is something else.
    """
    with path.open("rb") as file:
        kept = json.loads(file.read(_MOST_JSON_BYTES))
    if not isinstance(kept, dict):
        raise ValueError(f"{path.name} holds no object")
    return kept


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write ``content`` to ``path``, for its owner alone; a missing folder is made. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_file(path, (json.dumps(content, ensure_ascii=False, indent=2).encode(),))


UNFINISHED = ".part"
"""Suffix of a file that is being written; one that stays is of a process that was killed."""


def replace_file(path: Path, parts: Iterable[bytes | bytearray | memoryview]) -> None:
    """Write ``parts`` to a file beside ``path`` and rename it to ``path``. Only its owner may read it.

    Raises:
        OSError: the folder is missing or full; ``path`` is as it was.
    """
    handle, name = tempfile.mkstemp(suffix=UNFINISHED, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            for part in parts:
                file.write(part)
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


def remove_oldest(folder: Path, suffix: str, most_bytes: int, most_files: float = math.inf, *, keep: str) -> None:
    """Remove files with ``suffix``, the one that was used longest ago first, and abandoned unfinished ones.

    Args:
        folder: of the files.
        suffix: of their names.
        most_bytes: what stays has no more bytes.
        most_files: what stays has no more files.
        keep: name of a file that stays and is not counted, as it is about to be replaced.

    Raises:
        OSError: the folder cannot be read.
    """
    found = []
    for entry in os.scandir(folder):
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:  # another engine has just removed it
            continue
        if entry.name.endswith(UNFINISHED) and time.time() - status.st_mtime > _ABANDONED_S:
            with suppress(OSError):
                Path(entry.path).unlink(missing_ok=True)
        elif entry.name.endswith(suffix) and entry.name != keep:
            found.append((status.st_mtime, status.st_size, Path(entry.path)))
    total = sum(size for _, size, _ in found)
    for index, (_, size, path) in enumerate(sorted(found)):
        if total <= most_bytes and len(found) - index <= most_files:
            break
        with suppress(OSError):  # one that cannot be removed counts on, and others go
            path.unlink(missing_ok=True)
            total -= size
