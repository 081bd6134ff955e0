"""The folder that keeps sequence states. A fault here costs time and never an answer."""

import logging
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from glmserve.engine.atomic_file import UNFINISHED, replace_file
from glmserve.engine.kv_cache.saved_state import (
    HEADER_BYTES,
    BadState,
    Fingerprint,
    check_content,
    pack_header,
    state_length,
)

log = logging.getLogger(__name__)

_SUFFIX = ".state"
_ABANDONED_SECONDS = 3600.0


class StateStore:
    """Files of sequence states by fingerprint; several engines may share one folder."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        """Keep states in ``path``, which is made when needed, and no more than ``most_bytes`` of them."""
        self._path = path
        self._most_bytes = most_bytes
        self._writing = threading.Lock()

    def load(self, key: Fingerprint) -> bytearray | None:
        """Return the state of ``key``, or None if no complete one is stored."""
        path = self._path / key.file_name
        try:
            if not path.is_file():
                return None
            with path.open("rb") as file:
                header = file.read(HEADER_BYTES)
                state = bytearray(state_length(header, key, os.fstat(file.fileno()).st_size))
                if file.readinto(state) != len(state):
                    raise BadState("is cut off")
            check_content(header, state)
        except (OSError, BadState) as error:
            reason = f"cannot be read ({error.strerror})" if isinstance(error, OSError) else error
            log.warning("%s %s; the prefix is computed again", path, reason)
            return None
        with suppress(OSError):
            os.utime(path)  # the one that was used longest ago goes first
        return state

    def save(self, key: Fingerprint, state: bytearray) -> None:
        """Keep ``state``; hashing and writing are done by a thread, which the end of the process waits for."""
        threading.Thread(target=self.write, args=(key, state), name="state-writer").start()

    def write(self, key: Fingerprint, state: bytearray) -> None:
        """Keep ``state``, or log why not."""
        try:
            with self._writing:
                self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
                if self._make_room(HEADER_BYTES + len(state), key):
                    replace_file(self._path / key.file_name, pack_header(key, state), state)
                    log.info("a pinned prefix was saved: %.1f MB in %s", len(state) / 1e6, self._path)
        except OSError as error:
            log.warning("%s: a pinned prefix could not be saved: %s", self._path, error.strerror or error)

    def _make_room(self, needed: int, key: Fingerprint) -> bool:
        """Remove states, the one that was used longest ago first, until ``needed`` bytes fit."""
        if needed > self._most_bytes:
            log.warning("a pinned prefix has %.0f MB and is not saved (--pinned-disk-mb)", needed / 1e6)
            return False
        states = []
        for entry in os.scandir(self._path):
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # another engine has just removed it
                continue
            if entry.name.endswith(UNFINISHED) and time.time() - status.st_mtime > _ABANDONED_SECONDS:
                Path(entry.path).unlink(missing_ok=True)
            elif entry.name.endswith(_SUFFIX) and entry.name != key.file_name:
                states.append((status.st_mtime, status.st_size, Path(entry.path)))
        total = sum(size for _, size, _ in states)
        for _, size, path in sorted(states):
            if total + needed <= self._most_bytes:
                break
            path.unlink(missing_ok=True)
            total -= size
        return True
