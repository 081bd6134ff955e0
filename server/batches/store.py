"""The files and batches of a server on its disk: whose they are, how much they take, and when they go."""

import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from sqlite3 import Row

from glmserve.batches.database import Database
from glmserve.batches.input_lines import unanswered_line
from glmserve.batches.records import (
    DAY_S,
    UNFINISHED,
    Batch,
    BatchStatus,
    Line,
    LineProblem,
    Purpose,
    StoredFile,
    Usage,
)
from glmserve.batches.rows import batch_of, facts_of, file_of
from glmserve.http.errors import (
    BatchConflict,
    BatchNotFound,
    InvalidRequest,
    StorageFull,
    StoredFileNotFound,
    TooManyBatches,
)

PIECE = 64 * 1024
"""Bytes of a piece of an uploaded file. A piece of an output file is a line."""
MOST_FILES = 5000
"""Uploaded files of an owner."""
MOST_UNFINISHED = 200
"""Batches of an owner that have not ended."""
MOST_BATCHES = 2000
"""Batches of an owner that are kept: past that the one that ended first is forgotten."""
KEPT_S = 30 * DAY_S
"""How long a batch is kept after its window."""

_UPLOADING, _READY, _PENDING = "uploading", "ready", "pending"
"""States of a file: while it comes; as callers see it; the output of a batch that has not ended."""

_UNFINISHED = tuple(status.value for status in UNFINISHED)
_IN_UNFINISHED = f"({', '.join('?' * len(_UNFINISHED))})"
_SELECT = """SELECT b.*, o.id AS output_id, e.id AS error_id FROM batches b
    LEFT JOIN files o ON o.number = b.output AND o.state = 'ready'
    LEFT JOIN files e ON e.number = b.errors AND e.state = 'ready'"""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list: ``limit`` items after the one with the id ``after``."""

    limit: int
    after: str = ""
    ascending: bool = False


class BatchStore:
    """All methods block, and belong to one thread."""

    def __init__(self, folder: Path, most_bytes: int, clock: Callable[[], float]) -> None:
        """Open the store in ``folder``, for ``most_bytes`` of files; ``clock`` gives seconds since the epoch.

        Raises as ``Database``.
        """
        self._db = Database(folder)
        self._most_bytes = most_bytes
        self._clock = clock
        # What came before this process was killed, and not to its end.
        self._db.run("DELETE FROM files WHERE state = ?", _UPLOADING)
        self._used = Counter[str]()
        self.sweep()

    @property
    def used_bytes(self) -> int:
        """Bytes of all files."""
        return sum(self._used.values())

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @property
    def now(self) -> int:
        """Seconds since the epoch."""
        return int(self._clock())

    # Files.

    def begin_file(self, owner: str, name: str) -> int:
        """Return the number of a file that is about to come. Raises TooManyBatches."""
        count = "SELECT COUNT(*) FROM files WHERE owner = ? AND purpose = ?"
        if self._db.value(count, owner, Purpose.INPUT.value) >= MOST_FILES:
            raise TooManyBatches("files of this key", MOST_FILES)
        return self._new_file(owner, name, Purpose.INPUT, _UPLOADING, 0)

    def append(self, owner: str, file: int, first: int, pieces: Sequence[bytes]) -> None:
        """Add pieces to a file that comes, the first of which has the number ``first``. Raises StorageFull."""
        size = sum(map(len, pieces))
        if not self._has_room(owner, size):
            raise StorageFull(self._space_of(owner))
        with self._db.change():
            rows: list[tuple[object, ...]] = [(file, first + number, piece) for number, piece in enumerate(pieces)]
            self._db.run_all("INSERT INTO pieces VALUES (?, ?, ?)", rows)
            self._grow(owner, file, size)

    def finish_file(self, owner: str, file: int, name: str, seconds: int) -> StoredFile:
        """Return a file that has come to its end, under its name; it is kept for ``seconds``."""
        changed = "UPDATE files SET state = ?, name = ?, created = ?, expires = ? WHERE number = ?"
        self._db.run(changed, _READY, name, self.now, self.now + seconds, file)
        return file_of(self._db.rows("SELECT * FROM files WHERE number = ? AND owner = ?", file, owner)[0])

    def file(self, owner: str, file_id: str, *, param: str | None = None) -> StoredFile:
        """Return a file of ``owner``. Raises StoredFileNotFound, for ``param``."""
        sql = "SELECT * FROM files WHERE id = ? AND owner = ? AND state = ? AND expires > ?"
        rows = self._db.rows(sql, file_id, owner, _READY, self.now)
        if not rows:
            raise StoredFileNotFound(file_id, param=param)
        return file_of(rows[0])

    def input(self, batch: Batch) -> StoredFile:
        """Return the input of a batch, which is kept until that has ended. Raises StoredFileNotFound."""
        rows = self._db.rows("SELECT * FROM files WHERE id = ?", batch.input_id)
        if not rows:
            raise StoredFileNotFound(batch.input_id, param="input_file_id")
        return file_of(rows[0])

    def files(self, owner: str, purpose: Purpose | None, page: Page) -> list[StoredFile]:
        """Return a part of the owner's files, and one more where there are any. Raises InvalidRequest."""
        sign, order = (">", "ASC") if page.ascending else ("<", "DESC")
        where = f"owner = ? AND state = ? AND expires > ? AND (? = '' OR purpose = ?) AND number {sign} ?"
        after = self._number("files", owner, page)
        kind = "" if purpose is None else purpose.value
        rows = self._db.rows(
            f"SELECT * FROM files WHERE {where} ORDER BY number {order} LIMIT ?",
            owner, _READY, self.now, kind, kind, after, page.limit + 1,
        )  # fmt: skip
        return [file_of(row) for row in rows]

    def delete_file(self, owner: str, file_id: str) -> None:
        """Delete a file. Raises StoredFileNotFound, or BatchConflict where a batch still reads it."""
        file = self.file(owner, file_id)
        if self._is_read(file_id):
            raise BatchConflict("the file is the input of a batch that has not ended; cancel the batch first")
        self._drop([file.number])
        self._db.free_pages()

    def drop_file(self, file: int) -> None:
        """Delete a file whose upload was not completed."""
        self._drop([file])

    def pieces(self, file: int, after: int, most_bytes: int) -> tuple[list[bytes], int]:
        """Return the next pieces after number ``after``, about ``most_bytes``, and the number of the last one."""
        pieces: list[bytes] = []
        for row in self._db.run(
            "SELECT number, data FROM pieces WHERE file = ? AND number > ? ORDER BY number", file, after
        ):
            pieces.append(row["data"])
            after = row["number"]
            most_bytes -= len(row["data"])
            if most_bytes <= 0:
                break
        return pieces, after

    def span(self, file: int, start: int, length: int) -> bytes:
        """Return a part of an uploaded file."""
        first, last = start // PIECE, (start + length - 1) // PIECE
        sql = "SELECT data FROM pieces WHERE file = ? AND number BETWEEN ? AND ? ORDER BY number"
        data = b"".join(row["data"] for row in self._db.rows(sql, file, first, last))
        return data[start - first * PIECE :][:length]

    # Batches.

    def create(self, batch: Batch) -> Batch:
        """Keep a new batch; return it with its number and id. Raises StoredFileNotFound or TooManyBatches."""
        self.file(batch.owner, batch.input_id, param="input_file_id")
        count = f"SELECT COUNT(*) FROM batches WHERE owner = ? AND status IN {_IN_UNFINISHED}"
        if self._db.value(count, batch.owner, *_UNFINISHED) >= MOST_UNFINISHED:
            raise TooManyBatches("unfinished batches of this key", MOST_UNFINISHED)
        made = replace(batch, id=f"batch_{secrets.token_hex(16)}")
        sql = "INSERT INTO batches (id, owner, status, created, expires, input, facts) VALUES (?, ?, ?, ?, ?, ?, ?)"
        values = (made.id, made.owner, made.status.value, made.created, made.expires, made.input_id, facts_of(made))
        with self._db.change():
            ended = (
                f"SELECT number FROM batches WHERE owner = ? AND status NOT IN {_IN_UNFINISHED} ORDER BY number DESC"
            )
            oldest = f"DELETE FROM batches WHERE number IN ({ended} LIMIT -1 OFFSET ?)"
            self._db.run(oldest, made.owner, *_UNFINISHED, MOST_BATCHES - MOST_UNFINISHED)
            number = self._db.run(sql, *values).lastrowid or 0
        return replace(made, number=number)

    def batch(self, owner: str, batch_id: str) -> Batch:
        """Return a batch of ``owner``. Raises BatchNotFound."""
        rows = self._db.rows(f"{_SELECT} WHERE b.id = ? AND b.owner = ?", batch_id, owner)
        if not rows:
            raise BatchNotFound(batch_id)
        return batch_of(rows[0])

    def batches(self, owner: str, page: Page) -> list[Batch]:
        """Return a part of the owner's batches, the newest first, and one more where there are any."""
        after = self._number("batches", owner, page)
        sql = f"{_SELECT} WHERE b.owner = ? AND b.number < ? ORDER BY b.number DESC LIMIT ?"
        return [batch_of(row) for row in self._db.rows(sql, owner, after, page.limit + 1)]

    def unfinished(self) -> list[Batch]:
        """Return the batches that have not ended, the oldest first."""
        sql = f"{_SELECT} WHERE b.status IN {_IN_UNFINISHED} ORDER BY b.number"
        return [batch_of(row) for row in self._db.rows(sql, *_UNFINISHED)]

    def current(self, number: int) -> Batch:
        """Return a batch by its number."""
        return batch_of(self._db.rows(f"{_SELECT} WHERE b.number = ?", number)[0])

    def move(self, number: int, status: BatchStatus, problems: tuple[LineProblem, ...] = ()) -> Batch:
        """Change the state of a batch, and return it. Raises WrongState."""
        with self._db.change():
            batch = replace(self.current(number).moved(status, self.now), problems=problems)
            self._save(batch)
            if batch.is_final:
                self._db.run("DELETE FROM lines WHERE batch = ?", number)
                self._show_output(number)
        return self.current(number)

    def begin(self, number: int, lines: Iterable[Line], model: str) -> Batch:
        """Note the lines of a batch, which is in progress from now on. Raises WrongState."""
        rows: list[tuple[object, ...]] = [(number, o.number, o.custom_id, o.start, o.length, o.rank) for o in lines]
        with self._db.change():
            batch = self.current(number).moved(BatchStatus.IN_PROGRESS, self.now)
            self._save(batch)
            output, errors = (
                self._new_file(batch.owner, f"{batch.id}_{name}.jsonl", Purpose.OUTPUT, _PENDING, batch.file_seconds)
                for name in ("output", "error")
            )
            sql = "UPDATE batches SET model = ?, total = ?, output = ?, errors = ? WHERE number = ?"
            self._db.run(sql, model, len(rows), output, errors, number)
            insert = "INSERT INTO lines (batch, number, custom_id, start, length, rank) VALUES (?, ?, ?, ?, ?, ?)"
            self._db.run_all(insert, rows)
        return self.current(number)

    def lines(self, number: int, after_rank: int, limit: int) -> list[Line]:
        """Return lines of a batch that are not done, in the order of computation."""
        sql = "SELECT * FROM lines WHERE batch = ? AND done = 0 AND rank > ? ORDER BY rank LIMIT ?"
        return [
            Line(row["number"], row["custom_id"], row["start"], row["length"], row["rank"])
            for row in self._db.rows(sql, number, after_rank, limit)
        ]

    def finish_line(self, number: int, line: Line, text: bytes, usage: Usage, *, failed: bool) -> None:
        """Keep the reply to a line, once: the line is done with it. Where there is no space it becomes an error."""
        with self._db.change():
            if not self._db.run(
                "UPDATE lines SET done = 1 WHERE batch = ? AND number = ? AND done = 0", number, line.number
            ).rowcount:
                return
            row = self._db.rows("SELECT owner, output, errors FROM batches WHERE number = ?", number)[0]
            if not self._has_room(row["owner"], len(text)):
                problem = str(StorageFull(self._space_of(row["owner"])))
                text, failed = unanswered_line(new_line_id(), line.custom_id, "storage_full", problem), True
            counted = "failed" if failed else "completed"
            sql = f"""UPDATE batches SET {counted} = {counted} + 1, prompt_tokens = prompt_tokens + ?,
                cached_tokens = cached_tokens + ?, completion_tokens = completion_tokens + ? WHERE number = ?"""
            self._db.run(sql, usage.prompt, usage.cached, usage.completion, number)
            self._add_piece(row, line.number, text, failed=failed)

    def expire_lines(self, number: int, code: str, message: str) -> None:
        """Note in the error file of a batch that the rest of its lines is not answered."""
        with self._db.change():
            row = self._db.rows("SELECT owner, output, errors FROM batches WHERE number = ?", number)[0]
            for line in self.lines(number, -1, -1):
                self._add_piece(
                    row, line.number, unanswered_line(new_line_id(), line.custom_id, code, message), failed=True
                )
            self._db.run("UPDATE lines SET done = 1 WHERE batch = ?", number)

    def sweep(self) -> None:
        """Delete all expired files and batches."""
        old = [row["number"] for row in self._db.rows(
            "SELECT number, id FROM files WHERE expires <= ? AND state = ?", self.now, _READY
        ) if not self._is_read(row["id"])]  # fmt: skip
        over = f"DELETE FROM batches WHERE expires <= ? AND status NOT IN {_IN_UNFINISHED}"
        forgotten = self._db.run(over, self.now - KEPT_S, *_UNFINISHED).rowcount
        if old:
            self._drop(old)
        if old or forgotten:
            self._db.free_pages()
        rows = self._db.rows("SELECT owner, SUM(size) AS size FROM files GROUP BY owner")
        self._used = Counter({row["owner"]: row["size"] for row in rows})

    def _is_read(self, file_id: str) -> bool:
        sql = f"SELECT COUNT(*) FROM batches WHERE input = ? AND status IN {_IN_UNFINISHED}"
        return bool(self._db.value(sql, file_id, *_UNFINISHED))

    def _new_file(self, owner: str, name: str, purpose: Purpose, state: str, seconds: int) -> int:
        sql = """INSERT INTO files (id, owner, name, purpose, size, created, expires, state)
            VALUES (?, ?, ?, ?, 0, ?, ?, ?)"""
        values = (f"file-{secrets.token_hex(12)}", owner, name, purpose.value, self.now, self.now + seconds, state)
        return self._db.run(sql, *values).lastrowid or 0

    def _add_piece(self, batch: Row, number: int, text: bytes, *, failed: bool) -> None:
        file = batch["errors"] if failed else batch["output"]
        self._db.run("INSERT INTO pieces VALUES (?, ?, ?)", file, number, text)
        self._grow(batch["owner"], file, len(text))

    def _grow(self, owner: str, file: int, size: int) -> None:
        self._db.run("UPDATE files SET size = size + ? WHERE number = ?", size, file)
        self._used[owner] += size

    def _has_room(self, owner: str, size: int) -> bool:
        return self.used_bytes + size <= self._most_bytes and self._used[owner] + size <= self._space_of(owner)

    def _space_of(self, owner: str) -> int:
        """Return the space of an owner: with keys half of it, so that no key takes all from the others."""
        return self._most_bytes // 2 if owner else self._most_bytes

    def _drop(self, files: Sequence[int]) -> None:
        for number in files:
            row = self._db.rows("SELECT owner, size FROM files WHERE number = ?", number)
            if row:
                self._db.run("DELETE FROM files WHERE number = ?", number)
                self._used[row[0]["owner"]] -= row[0]["size"]

    def _show_output(self, number: int) -> None:
        """Show the output files of a batch that has ended, from now on; drop the empty ones."""
        row = self._db.rows("SELECT output, errors FROM batches WHERE number = ?", number)[0]
        for column in ("output", "errors"):
            file = row[column]
            if file is None:
                continue
            if self._db.value("SELECT size FROM files WHERE number = ?", file):
                shown = "UPDATE files SET state = ?, expires = expires + ? - created, created = ? WHERE number = ?"
                self._db.run(shown, _READY, self.now, self.now, file)
            else:
                self._db.run("DELETE FROM files WHERE number = ?", file)
                self._db.run(f"UPDATE batches SET {column} = NULL WHERE number = ?", number)

    def _save(self, batch: Batch) -> None:
        sql = "UPDATE batches SET status = ?, facts = ? WHERE number = ?"
        self._db.run(sql, batch.status.value, facts_of(batch), batch.number)

    def _number(self, table: str, owner: str, page: Page) -> int:
        """Return the number of the item that a page comes after. Raises InvalidRequest."""
        if not page.after:
            return 0 if page.ascending else 2**62
        number = self._db.value(f"SELECT number FROM {table} WHERE id = ? AND owner = ?", page.after, owner)
        if not number:
            raise InvalidRequest("after must be the id of an item of this list", param="after")
        return number


def new_line_id() -> str:
    """Return an id for a line of an output file."""
    return f"batch_req_{secrets.token_hex(16)}"
