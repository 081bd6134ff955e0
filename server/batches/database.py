"""The SQLite file of a store: opened privately, by one server at a time, and used from one thread."""

import asyncio
import fcntl
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from glmserve.http.errors import BatchesUnavailable

log = logging.getLogger(__name__)

FILE = "batches.sqlite3"
_VERSION = 1
_SCHEMA = """
CREATE TABLE files (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, name TEXT NOT NULL,
    purpose TEXT NOT NULL, size INTEGER NOT NULL, created INTEGER NOT NULL, expires INTEGER NOT NULL,
    state TEXT NOT NULL
);
CREATE INDEX files_of_owner ON files (owner, state, number);
CREATE TABLE pieces (
    file INTEGER NOT NULL REFERENCES files ON DELETE CASCADE, number INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (file, number)
);
CREATE TABLE batches (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, status TEXT NOT NULL,
    created INTEGER NOT NULL, expires INTEGER NOT NULL, input TEXT NOT NULL, model TEXT NOT NULL DEFAULT '',
    total INTEGER NOT NULL DEFAULT 0, completed INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0,
    prompt_tokens INTEGER NOT NULL DEFAULT 0, cached_tokens INTEGER NOT NULL DEFAULT 0,
    completion_tokens INTEGER NOT NULL DEFAULT 0, output INTEGER, errors INTEGER, facts TEXT NOT NULL
);
CREATE INDEX batches_of_owner ON batches (owner, number);
CREATE INDEX batches_by_status ON batches (status, number);
CREATE TABLE lines (
    batch INTEGER NOT NULL REFERENCES batches ON DELETE CASCADE, number INTEGER NOT NULL, custom_id TEXT NOT NULL,
    start INTEGER NOT NULL, length INTEGER NOT NULL, rank INTEGER NOT NULL, done INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (batch, number)
);
CREATE INDEX lines_to_do ON lines (batch, done, rank);
"""


class Database:
    """An open file. It belongs to this process until it is closed, or the process ends."""

    def __init__(self, folder: Path) -> None:
        """Open the file in ``folder``, which is made.

        Raises:
            OSError: that is not possible.
            sqlite3.Error: the file is no database.
            BatchesUnavailable: another process has it, or a later version has written it.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _locked(folder)
        try:
            path = folder / FILE
            # SQLite gives its journal the mode of the file.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._prepare(path)
        except BaseException:
            os.close(self._lock)
            raise

    def _prepare(self, path: Path) -> None:
        self._connection.row_factory = sqlite3.Row
        version = int(self.value("PRAGMA user_version"))
        if version > _VERSION:
            log.error("%s was written by a later version of glmserve", path)
            raise BatchesUnavailable("a later version of glmserve wrote the batches; set another --batch-dir")
        self._connection.execute("PRAGMA foreign_keys = ON")
        if not version:
            self._connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        self._connection.execute("PRAGMA journal_mode = WAL")
        # In WAL mode a crash of the machine may undo the last lines, which are then answered again.
        self._connection.execute("PRAGMA synchronous = NORMAL")
        if not version:
            self._connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")

    def value(self, sql: str, *values: object) -> int:
        """Return the only number that a query finds; 0 where that is nothing."""
        row = self._connection.execute(sql, values).fetchone()
        return int(row[0] or 0) if row is not None else 0

    def rows(self, sql: str, *values: object) -> list[sqlite3.Row]:
        """Return the rows that a query finds."""
        return self._connection.execute(sql, values).fetchall()

    def run(self, sql: str, *values: object) -> sqlite3.Cursor:
        """Change something."""
        return self._connection.execute(sql, values)

    def run_all(self, sql: str, values: list[tuple[object, ...]]) -> None:
        """Change something for each of ``values``."""
        self._connection.executemany(sql, values)

    @contextmanager
    def change(self) -> Iterator[None]:
        """Make all changes of the block, or none of them."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def free_pages(self) -> None:
        """Give the space of deleted rows back to the disk."""
        # As a script: a step of this statement frees one page, and execute() makes one step.
        self._connection.executescript("PRAGMA incremental_vacuum;")
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Close the file, which another process may then have."""
        self._connection.close()
        os.close(self._lock)


def _locked(folder: Path) -> int:
    lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        log.warning("another server uses %s, so this one has no batches; --batch-dir gives it a folder", folder)
        raise BatchesUnavailable(
            "another server uses the folder of batches; give each server its own with --batch-dir"
        ) from None
    return lock


class Closable(Protocol):
    """An open store."""

    def close(self) -> None:
        """Close the file."""


_Store = TypeVar("_Store", bound=Closable)
_T = TypeVar("_T")


class StoreThread(Generic[_Store]):
    """Does all work with a store in a thread of its own, and opens it for the first."""

    def __init__(self, open_store: Callable[[], _Store], folder: Path) -> None:
        """Nothing is opened yet; ``open_store`` opens the store in ``folder``."""
        self._open = open_store
        self._folder = folder
        self._store: _Store | None = None
        self._thread = ThreadPoolExecutor(1, "batches")

    def exists(self) -> bool:
        """Whether an earlier server has left something there."""
        try:
            return (self._folder / FILE).exists()
        except OSError:
            return False

    async def do(self, work: Callable[[_Store], _T]) -> _T:
        """Return the result of ``work``.

        Raises:
            BatchesUnavailable: the store cannot be opened or used.
        """
        return await asyncio.wrap_future(self._thread.submit(self._do, work))

    def _do(self, work: Callable[[_Store], _T]) -> _T:
        try:
            if self._store is None:
                self._store = self._open()
            return work(self._store)
        except (OSError, sqlite3.Error) as error:
            log.error("the files of batches in %s cannot be used: %s", self._folder, error)
            reason = (error.strerror if isinstance(error, OSError) else None) or error
            raise BatchesUnavailable(f"this server cannot keep batches now: {reason}; its log says where") from error

    async def close(self) -> None:
        """Close the store."""
        await asyncio.wrap_future(self._thread.submit(self._close))

    def _close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None
