"""Detection of files that are not a checkpoint's: a Git LFS pointer or a web page saved under its name."""

from pathlib import Path

from glmserve.convert.errors import CorruptFileError, UnsupportedFileError

START_BYTES = 64
"""Number of leading bytes that identify the file."""

_PAGES = (b"<!doctype html", b"<html", b"<head", b"<!--")


def check_start(path: Path, start: bytes) -> None:
    """Reject a file whose first bytes show that it is no part of a checkpoint.

    Raises:
        UnsupportedFileError: it is a pointer of Git LFS.
        CorruptFileError: it is a web page.
    """
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"version https://git-lfs"):
        raise UnsupportedFileError(path, "is only a pointer of Git LFS; get the file itself with git lfs pull")
    if text.lower().startswith(_PAGES):
        raise CorruptFileError(path, "it is a web page (HTML), such as the error page of a download")


def check_file(path: Path) -> None:
    """Look at the start of a file; raises as ``check_start`` does, and OSError."""
    with path.open("rb") as file:
        check_start(path, file.read(START_BYTES))
