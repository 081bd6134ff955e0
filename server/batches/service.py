"""The files and batches of a server, as their endpoints call them: the store, its limits, and the runner."""

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from glmserve.batches.answering import LineAnswers
from glmserve.batches.database import StoreThread
from glmserve.batches.records import DAY_S, Batch, BatchStatus, StoredFile, WrongState
from glmserve.batches.runner import BatchRunner, RunnerOptions
from glmserve.batches.store import PIECE, BatchStore
from glmserve.http.errors import BatchConflict, InvalidRequest

_T = TypeVar("_T")

_WRITTEN_PIECES = 16
"""Pieces of an upload that are written at once."""
_READ_BYTES = 1 << 20
"""Of a download that are read at once."""
_FOREVER_S = 100 * 365 * DAY_S


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """Where files and batches are kept, and how much of them."""

    folder: Path
    most_bytes: int = 2 * 10**9
    """Of all files."""
    most_file_bytes: int = 200 * 10**6
    """Of one; OpenAI's bound."""
    file_seconds: int = 30 * DAY_S
    """How long a file is kept that does not say so itself; 0 is for ever."""
    runner: RunnerOptions = field(default_factory=RunnerOptions)


class BatchService:
    """Files and batches of all callers."""

    def __init__(
        self,
        options: BatchOptions,
        answers: LineAnswers,
        is_known: Callable[[str], bool],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Keep them as ``options`` say.

        Args:
            options: limits.
            answers: gives the replies to lines.
            is_known: whether an owner may still use the server.
            clock: seconds since the epoch.
        """
        self.options = options
        opened = partial(BatchStore, options.folder, options.most_bytes, clock)
        self._thread = StoreThread[BatchStore](opened, options.folder)
        self._clock = clock
        self.runner = BatchRunner(self._thread, answers, options.runner, is_known)

    @property
    def now(self) -> int:
        """Seconds since the epoch."""
        return int(self._clock())

    @property
    def file_seconds(self) -> int:
        """How long a file is kept that does not say so itself."""
        return self.options.file_seconds or _FOREVER_S

    def start(self) -> None:
        """Continue the batches of an earlier server."""
        self.runner.start()

    async def stop(self) -> None:
        """Stop all lines, and close the store."""
        await self.runner.stop()
        await self._thread.close()

    async def do(self, work: Callable[[BatchStore], _T]) -> _T:
        """Return the result of work with the store. Raises BatchesUnavailable, and the errors of ``work``."""
        return await self._thread.do(work)

    async def create(self, batch: Batch) -> Batch:
        """Create a batch, which begins as soon as it may."""
        made = await self.do(lambda store: store.create(batch))
        self.runner.wake()
        return made

    async def cancel(self, owner: str, batch_id: str) -> Batch:
        """Cancel a batch. Raises BatchNotFound, or BatchConflict where it has ended."""

        def move(store: BatchStore) -> Batch:
            batch = store.batch(owner, batch_id)
            if batch.status in (BatchStatus.CANCELLING, BatchStatus.CANCELLED):
                return batch
            try:
                return store.move(batch.number, BatchStatus.CANCELLING)
            except WrongState:
                raise BatchConflict(f"the batch is {batch.status.value} and can no longer be cancelled") from None

        cancelled = await self.do(move)
        self.runner.wake()
        return cancelled

    async def content(self, file: StoredFile) -> AsyncIterator[bytes]:
        """Yield the content of a file."""
        after = -1
        while True:
            read = partial(BatchStore.pieces, file=file.number, after=after, most_bytes=_READ_BYTES)
            pieces, after = await self.do(read)
            if not pieces:
                return
            yield b"".join(pieces)


class Upload:
    """A file that comes, written as it does."""

    def __init__(self, service: BatchService, owner: str, number: int) -> None:
        """Write the file ``number`` of ``owner``."""
        self._service = service
        self._owner = owner
        self._number = number
        self._rest = bytearray()
        self._pieces = 0
        self._size = 0

    @classmethod
    async def begin(cls, service: BatchService, owner: str) -> "Upload":
        """Begin a file. Raises TooManyBatches."""
        return cls(service, owner, await service.do(lambda store: store.begin_file(owner, "")))

    async def add(self, data: bytes) -> None:
        """Take more content. Raises InvalidRequest and StorageFull."""
        self._size += len(data)
        if self._size > self._service.options.most_file_bytes:
            most = self._service.options.most_file_bytes
            raise InvalidRequest(
                f"the file is larger than the limit of {most} bytes", param="file", code="file_too_large"
            )
        self._rest += data
        if len(self._rest) >= _WRITTEN_PIECES * PIECE:
            await self._write(len(self._rest) // PIECE * PIECE)

    async def finish(self, name: str, seconds: int) -> StoredFile:
        """Return the file. Raises StorageFull."""
        await self._write(len(self._rest))
        return await self._service.do(lambda store: store.finish_file(self._owner, self._number, name, seconds))

    async def drop(self) -> None:
        """Drop the received part."""
        await self._service.do(lambda store: store.drop_file(self._number))

    async def _write(self, size: int) -> None:
        data, self._rest = bytes(self._rest[:size]), self._rest[size:]
        pieces = [data[start : start + PIECE] for start in range(0, size, PIECE)]
        first, self._pieces = self._pieces, self._pieces + len(pieces)
        await self._service.do(lambda store: store.append(self._owner, self._number, first, pieces))
