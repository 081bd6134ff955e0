"""A file that appears under its name only when it is complete."""

import errno
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedWriter
from pathlib import Path
from typing import BinaryIO

from glmserve.convert.errors import OutputBusyError, OutputError

PART_SUFFIX = ".part"
"""Suffix of an unfinished file: OUT.gguf.part. A later run overwrites what a killed one left."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
)


@contextmanager
def complete_file(path: Path, expected_bytes: int) -> Iterator[BufferedWriter]:
    """Open ``path`` for writing under a temporary name, and rename it when the block ends well.

    The data is on disk before the name is. On an exception the temporary file is removed; if the process is
    killed it stays, under its temporary name, and its lock goes with the process.

    Args:
        path: the final name; an existing regular file is replaced at the very end, and nothing else.
        expected_bytes: what will be written, to reject early when the disk cannot hold it.

    Raises:
        OutputError: no such folder, no regular file, no permission, no space, or another process is writing the same
            file.
    """
    part = path.parent / f"{path.name}{PART_SUFFIX}"
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
            check_regular(path)
            part.replace(path)
            _sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def check_regular(path: Path) -> None:
    """Reject a name that is neither a regular file nor free.

    Raises:
        OutputError: it does.
        OSError: it cannot be looked at.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISLNK(mode):
        raise OutputError(f"{path} is a symbolic link to {path.readlink()}; give the name of the file itself")
    if not stat.S_ISREG(mode):
        kind = next((kind for is_kind, kind in _KINDS if is_kind(mode)), "no regular file")
        raise OutputError(f"{path} is {kind}; give the name of a file")


def _check_target(path: Path, part: Path, expected_bytes: int) -> None:
    check_regular(path)
    if not path.parent.is_dir():
        raise OutputError(f"{path.parent} is not a folder; create it first")
    left_over = part.lstat().st_size if os.path.lexists(part) else 0
    free = shutil.disk_usage(path.parent).free + left_over
    if free < expected_bytes:
        raise OutputError(f"{path} needs {expected_bytes:,} bytes and its disk has {free:,} left; free some space")


def _open_locked(part: Path) -> BufferedWriter:
    file = _open_part(part)
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
            raise OutputBusyError(part)
    return file


def _open_part(part: Path) -> BufferedWriter:
    """Open a regular file with no other hard link: another user may have placed a link at a known name."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        handle = os.open(part, flags | getattr(os, "O_BINARY", 0), 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise OutputError(f"{part} is no regular file; remove it, as unfinished output goes there") from error
        raise
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(handle)
        raise OutputError(f"{part} is no regular file of its own; remove it, as unfinished output goes there")
    return os.fdopen(handle, "ab")


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def stream(path: Path) -> Iterator[BinaryIO]:
    """Open ``path`` for output that is not kept under a name: ``-`` is the standard output.

    Raises:
        OutputError: the standard output is a terminal, is closed, or what reads it has gone.
    """
    with _as_output_error(path):
        if not is_stdout(path):
            with path.open("wb", buffering=0) as sink:
                yield sink
            return
        if sys.stdout is None or sys.stdout.isatty():
            raise OutputError("the standard output is a terminal; give the name of a file with -o, or redirect it")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()


def is_stdout(path: Path) -> bool:
    """Tell whether a name stands for the standard output."""
    return str(path) in ("-", "/dev/stdout")


def is_stream(path: Path) -> bool:
    """Tell whether output goes to a pipe, a terminal or /dev/null instead of a file."""
    return is_stdout(path) or str(path) == os.devnull


@contextmanager
def _as_output_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise OutputError(
                f"the disk (or a size limit) was full before {path} was complete; free some space"
            ) from error
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error
