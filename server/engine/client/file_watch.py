"""Detects changes of the files that an engine was started with."""

import asyncio
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from glmserve.engine.config import EngineConfig
from glmserve.engine.llama.fingerprint import identify_content

log = logging.getLogger(__name__)

_LOOK_SECONDS = 5.0
"""How often to look whether the files were overwritten."""


@dataclass(frozen=True, slots=True)
class _Mark:
    """A file as it was."""

    place: tuple[int, int]
    """Device and inode of the file that an open mapping keeps, independent of its path."""
    version: tuple[int, int]
    """Size and time of change: while they are the same, so is the content."""
    content: str


class FileWatch:
    """Remembers the files of a model when they are first looked at. All methods read the disk, and most block."""

    def __init__(self, config: EngineConfig) -> None:
        """Nothing is looked at yet."""
        tuned = (file for variant in config.variants for file in (variant.adapter, variant.prefix) if file)
        self._paths = (config.model_path, *tuned)
        self._marks: dict[Path, _Mark] = {}

    def replaced(self) -> Path | None:
        """Return a file with another content than at the first call. One that cannot be read is left to the load."""
        return next((path for path in self._paths if self._differs(path)), None)

    def overwritten(self) -> Path | None:
        """Return a file that was changed in place, so that an engine which has it mapped computes with the new bytes.

        A file that another one was put in the place of is no such case: the engine goes on with the old one.
        """
        return next(
            (path for path in self._paths if _place(path) == self._place_of(path) and self._differs(path)), None
        )

    async def next_overwritten(self) -> Path:
        """Wait until a file is overwritten, and return it; see ``overwritten``."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                path = await asyncio.to_thread(self.overwritten)
            except Exception as error:  # the system gives no thread, say: the next look may work
                log.warning("could not check whether %s was overwritten: %s", self._paths[0].name, error)
                continue
            if path is not None:
                return path

    def _place_of(self, path: Path) -> tuple[int, int] | None:
        return self._marks[path].place if path in self._marks else None

    def _differs(self, path: Path) -> bool:
        try:
            status = path.stat()
            version = (status.st_size, status.st_mtime_ns)
            known = self._marks.get(path)
            if known is not None and (known.version, known.place) == (version, _of(status)):
                return False
            mark = _Mark(_of(status), version, identify_content(path))
        except OSError:
            return False
        if known is None or known.content == mark.content:  # one that was only touched, or copied back
            self._marks[path] = mark if known is None else _Mark(known.place, version, mark.content)
            return False
        return True


def _of(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _place(path: Path) -> tuple[int, int] | None:
    try:
        return _of(path.stat())
    except OSError:
        return None
