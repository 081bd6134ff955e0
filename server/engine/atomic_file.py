"""Files that are there whole or not at all."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

UNFINISHED = ".part"
"""Suffix of a file that is being written; one that stays is of a process that was killed."""


def replace_file(path: Path, *parts: bytes | bytearray) -> None:
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
