"""The folder of the saved prompts: one file for each, which only the user of the server may read.

A file names the model, build and layout that computed it, has the hashes of its prompt, and a digest of each part.
Hashes and digests are keyed with a secret that lies in the folder, so a file of another origin is never used:
llama.cpp gets only bytes that it wrote itself.
"""

import hashlib
import hmac
import logging
import os
import secrets
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from glmserve.engine.files import UNFINISHED, remove_oldest, replace_file
from glmserve.engine.kv_cache.prompt_index import BLOCK, HASH_BYTES, MARK_BYTES, SavedPrompt, TokenHashes

log = logging.getLogger(__name__)

_MAGIC = b"glmprmpt"
_FORMAT = 1
_HEADER = struct.Struct("<8sIIQ32s")
"""Magic, format, tokens, bytes of the state and its digest; then the hashes, the marks, and a digest of all that."""
_DIGEST_BYTES = 32
_MAX_TOKENS = 2**22
_SECRET = "secret"
_SECRET_BYTES = 32
SUFFIX = ".prompt"
_PIECE = 2**18
"""Bytes that are hashed or written between two looks at the clock."""
MAX_FILES = 4096

Pause = Callable[[float], None]
"""Called after each piece with the seconds that it took: waits, so that answers get the rest of the time.

It may raise ``Cancelled``.
"""


class Cancelled(Exception):
    """The process is ending, so the file is not finished."""


class BadPrompt(Exception):
    """The file is damaged or not ours; the text follows its name."""


@dataclass(frozen=True, slots=True)
class _Header:
    saved: SavedPrompt
    marks: bytes
    state_bytes: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class SavedState:
    """A state that was read, and the marks of its tokens."""

    state: bytearray
    marks: bytes


class PromptFiles:
    """Reads and writes the files of one model; several processes may share the folder.

    Only ``write`` lets an ``OSError`` through.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        """Make ``folder`` and its secret if needed, and keep at most ``most_bytes`` there. Raises OSError."""
        self._folder = folder
        self._most_bytes = most_bytes
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        self.secret = _secret_of(folder)

    @property
    def most_state_bytes(self) -> int:
        """Bytes of the largest state that is saved: one conversation should not drive out all the others."""
        return self._most_bytes // 4

    def names(self, fingerprint: str) -> frozenset[str]:
        """Return the files of the model, build and layout of ``fingerprint``."""
        prefix = self._prefix(fingerprint)
        try:
            entries = [path.name for path in self._folder.iterdir()]
        except OSError:
            return frozenset()
        return frozenset(name for name in entries if name.startswith(prefix) and name.endswith(SUFFIX))

    def describe(self, name: str) -> SavedPrompt | None:
        """Return the facts in the header of a file; a file that is damaged, or not ours, is removed."""
        with _opened(self._folder / name) as file:
            try:
                return None if file is None else self._header(file, name).saved
            except (OSError, BadPrompt) as error:
                self._spoiled(name, error)
                return None

    def read(self, saved: SavedPrompt) -> SavedState | None:
        """Return the state of ``saved``; None, and the file is removed, if any bit of it is wrong."""
        with _opened(self._folder / saved.name) as file:
            if file is None:
                return None
            try:
                header = self._header(file, saved.name)
                if header.saved != saved:
                    raise BadPrompt("belongs to another prompt")
                state = bytearray(header.state_bytes)
                if file.readinto(state) != len(state):
                    raise BadPrompt("is cut off")
                if not hmac.compare_digest(self._digest(state), header.digest):
                    raise BadPrompt("is damaged")
            except (OSError, BadPrompt, MemoryError) as error:
                self._spoiled(saved.name, error)
                return None
            with suppress(OSError):
                os.utime(file.fileno())  # the one that was used longest ago goes first
        return SavedState(state, header.marks)

    def write(self, fingerprint: str, hashes: TokenHashes, state: bytearray, pause: Pause) -> SavedPrompt | None:
        """Save ``state`` in small pieces; None where it is too large. Raises OSError and Cancelled."""
        end = hashes.at(len(hashes))
        saved = SavedPrompt(f"{self._prefix(fingerprint)}{end.hex()}{SUFFIX}", len(hashes), hashes.blocks, end)
        digest = self._digest(state, pause)
        head = _HEADER.pack(_MAGIC, _FORMAT, saved.length, len(state), digest) + b"".join(
            (*saved.blocks, end, hashes.marks())
        )
        head += self._digest(saved.name.encode() + head)
        if not self._make_room(len(head) + len(state), saved.name):
            return None
        replace_file(self._folder / saved.name, _pieces(head, state, pause))
        return saved

    def remove(self, names: Iterable[str]) -> None:
        """Remove files."""
        for name in names:
            with suppress(OSError):
                (self._folder / name).unlink()

    def _prefix(self, fingerprint: str) -> str:
        return hashlib.blake2b(fingerprint.encode(), digest_size=8, key=self.secret).hexdigest() + "-"

    def _digest(self, content: bytes | bytearray, pause: Pause | None = None) -> bytes:
        digest = hashlib.blake2b(digest_size=_DIGEST_BYTES, key=self.secret)
        view = memoryview(content)
        for start in range(0, len(view), _PIECE):
            started = time.monotonic()
            digest.update(view[start : start + _PIECE])
            if pause is not None:
                pause(time.monotonic() - started)
        return digest.digest()

    def _header(self, file: BufferedReader, name: str) -> _Header:
        fixed = file.read(_HEADER.size)
        if len(fixed) < _HEADER.size:
            raise BadPrompt("is cut off")
        magic, version, length, state_bytes, digest = _HEADER.unpack(fixed)
        if (magic, version) != (_MAGIC, _FORMAT) or not BLOCK <= length <= _MAX_TOKENS:
            raise BadPrompt("is not a saved prompt of this version")
        hashes, marks = file.read((length // BLOCK + 1) * HASH_BYTES), file.read(length * MARK_BYTES)
        seal = file.read(_DIGEST_BYTES)
        if not hmac.compare_digest(self._digest(name.encode() + fixed + hashes + marks), seal):
            raise BadPrompt("was not written by this server, or is damaged")
        if os.fstat(file.fileno()).st_size != file.tell() + state_bytes:
            raise BadPrompt("is cut off")
        parts = tuple(hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES))
        return _Header(SavedPrompt(name, length, parts[:-1], parts[-1]), marks, int(state_bytes), digest)

    def _spoiled(self, name: str, error: Exception) -> None:
        reason = f"cannot be read ({error})" if isinstance(error, OSError | MemoryError) else error
        log.warning("%s %s; the prompt is computed again", self._folder / name, reason)
        if isinstance(error, BadPrompt):
            self.remove((name,))

    def _make_room(self, needed: int, name: str) -> bool:
        """Remove files of all models, the one that was used longest ago first, until ``needed`` bytes fit."""
        if needed > self.most_state_bytes:
            return False
        remove_oldest(self._folder, SUFFIX, self._most_bytes - needed, MAX_FILES - 1, keep=name)
        return True


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader | None]:
    """Open a file to read it; None where that cannot be: another process may have removed it."""
    flags = os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        file = open(path, "rb", opener=lambda name, usual: os.open(name, usual | flags))  # noqa: SIM115
    except OSError:
        yield None
        return
    with file:
        yield file


def _pieces(head: bytes, state: bytearray, pause: Pause) -> Iterator[bytes | memoryview]:
    yield head
    view = memoryview(state)
    for start in range(0, len(view), _PIECE):
        started = time.monotonic()
        yield view[start : start + _PIECE]
        pause(time.monotonic() - started)


def _secret_of(folder: Path) -> bytes:
    """Return the secret of ``folder``, and make one where it has none. Raises OSError."""
    path = folder / _SECRET
    for _ in range(2):
        with _opened(path) as file:
            secret = file.read(_SECRET_BYTES + 1) if file is not None else b""
        if len(secret) == _SECRET_BYTES:
            return secret
        new = folder / f"{_SECRET}-{secrets.token_hex(8)}{UNFINISHED}"
        replace_file(new, (secrets.token_bytes(_SECRET_BYTES),))
        if secret:
            path.unlink()  # it is damaged: what it sealed is lost
        with suppress(FileExistsError):
            path.hardlink_to(new)  # of two processes that make one, the first one wins
        new.unlink(missing_ok=True)
    raise OSError(f"{path} cannot be read")


def clear(folder: Path, suffix: str = SUFFIX) -> int:
    """Remove all files with ``suffix`` in ``folder``, and half-written ones; return how many. Raises OSError."""
    removed = 0
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.suffix in (suffix, UNFINISHED):
            path.unlink(missing_ok=True)
            removed += path.suffix == suffix
    return removed
