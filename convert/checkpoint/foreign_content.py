"""What lies under the name of a checkpoint's file instead of it: a pointer of Git LFS, or a web page."""

from pathlib import Path

from glmserve.convert.errors import CorruptFileError, UnsupportedFileError

START_BYTES = 64
"""So many bytes of a file are enough to tell."""

_PAGES = (b"<!doctype html", b"<html", b"<head", b"<!--")


def check_start(path: Path, start: bytes) -> None:
    """Refuse a file that begins like something else than what any file of a checkpoint is.

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
