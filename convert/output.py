"""A file that appears under its name only when it is complete."""

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedWriter
from pathlib import Path

from convert.errors import OutputError

PART_SUFFIX = ".part"
"""What an unfinished file is called: OUT.gguf.part. A later run overwrites what a killed one left."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def complete_file(path: Path, expected_bytes: int) -> Iterator[BufferedWriter]:
    """Open ``path`` for writing under a temporary name, and rename it when the block ends well.

    The data is on disk before the name is. On an exception the temporary file is removed; if the process is
    killed it stays, under its temporary name, and its lock goes with the process.

    Args:
        path: the final name; an existing file is replaced at the very end.
        expected_bytes: what will be written, to refuse early when the disk cannot hold it.

    Raises:
        OutputError: no such folder, no permission, no space, or another process is writing the same file.
    """
    part = path.with_name(path.name + PART_SUFFIX)
    with _as_output_error(path):
        _check_target(path, part, expected_bytes)
        file = _open_locked(part)
    try:
        # The file is the inner one: closing it writes what is buffered, and can fail as writing does.
        with _as_output_error(path), file:
            file.truncate(0)
            yield file
            file.flush()
            os.fsync(file.fileno())
            part.replace(path)
            _sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def _check_target(path: Path, part: Path, expected_bytes: int) -> None:
    if path.is_dir():
        raise OutputError(f"{path} is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise OutputError(f"{path.parent} is not a folder; create it first")
    left_over = part.stat().st_size if part.exists() else 0
    free = shutil.disk_usage(path.parent).free + left_over
    if free < expected_bytes:
        raise OutputError(
            f"{path} needs {expected_bytes:,} bytes and its disk has {free:,} left; free some space or "
            "choose a smaller --quant"
        )


def _open_locked(part: Path) -> BufferedWriter:
    file = part.open("ab")
    if sys.platform != "win32":
        import fcntl  # noqa: PLC0415 - not there on Windows

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The other run may have finished between opening and locking: then this handle is its result.
            ours = part.exists() and part.stat().st_ino == os.fstat(file.fileno()).st_ino
        except BlockingIOError:
            ours = False
        if not ours:
            file.close()
            raise OutputError(f"{part} is being written by another process; wait for it, or choose another name")
    return file


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _as_output_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise OutputError(
                f"the disk (or a size limit) was full before {path} was complete; free some space or "
                "choose a smaller --quant"
            ) from error
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error
