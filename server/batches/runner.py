"""Runs the batches of a store, each from where it is: after a restart the lines that are not done are answered."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import anyio

from glmserve.batches.answering import LineAnswers
from glmserve.batches.database import StoreThread
from glmserve.batches.input_lines import InputCheck
from glmserve.batches.records import Backlog, Batch, BatchStatus, Line, LineProblem, WrongState
from glmserve.batches.store import BatchStore
from glmserve.http.errors import BatchesUnavailable, StoredFileNotFound
from glmserve.http.offload import off_loop

log = logging.getLogger(__name__)

_SWEEP_S = 60.0
_PAUSE_S = 10.0
"""Before the store is tried again after a failure."""
_FETCHED = 64
"""Lines that are read from the store at once."""
_CHECKED_BYTES = 256 * 1024
"""Of an input that are checked at once."""
_EXPIRED = "This request could not be executed before the completion window expired."


@dataclass(frozen=True, slots=True)
class RunnerOptions:
    """Limits of the runner."""

    lines_at_once: int = 16
    """Lines of a batch that are asked at once."""
    most_line_bytes: int = 8 * 2**20
    batches_at_once: int = 8


class BatchRunner:
    """Runs one batch for each owner and model at a time, the oldest first."""

    def __init__(
        self,
        thread: StoreThread[BatchStore],
        answers: LineAnswers,
        options: RunnerOptions,
        is_known: Callable[[str], bool],
    ) -> None:
        """Run the batches of a store whose owner ``is_known``: one of a key that was removed stands still."""
        self._thread = thread
        self._answers = answers
        self._options = options
        self._is_known = is_known
        self._changed = asyncio.Event()
        self._running: dict[tuple[str, str], tuple[Batch, asyncio.Task[None]]] = {}
        self._waiting: tuple[Batch, ...] = ()
        self._lines_left: dict[int, int] = {}
        """Of the batches that are answered, by number: counted here, as lines end between two looks at the store."""
        self._task: asyncio.Task[None] | None = None

    @property
    def backlog(self) -> Backlog:
        """The work still to do."""
        lines = sum(self._lines_left.values()) + sum(batch.left for batch in self._waiting)
        return Backlog(len(self._running), len(self._waiting), lines)

    def start(self) -> None:
        """Continue the batches that an earlier server has left."""
        if self._thread.exists():
            self.wake()

    def wake(self) -> None:
        """Look for work: a batch was created, or is to be cancelled."""
        self._changed.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop all lines; the next server answers the lines that are not done."""
        task, self._task = self._task, None
        running = [task for _, task in self._running.values()]
        for one in filter(None, (task, *running)):
            one.cancel()
        await asyncio.gather(*filter(None, (task, *running)), return_exceptions=True)
        self._running.clear()

    async def _run(self) -> None:
        while True:
            try:
                await self._start_batches()
                with anyio.move_on_after(_SWEEP_S) as waiting:
                    await self._changed.wait()
                if waiting.cancelled_caught:
                    await self._thread.do(lambda store: store.sweep())
            except BatchesUnavailable:
                await asyncio.sleep(_PAUSE_S)

    async def _start_batches(self) -> None:
        """Start the batches whose turn it is, and stop the cancelled ones."""
        self._changed.clear()
        unfinished = await self._thread.do(lambda store: store.unfinished())
        for batch in unfinished:
            if not self._is_known(batch.owner):
                continue
            running = next((task for one, task in self._running.values() if one.number == batch.number), None)
            if running is not None and batch.status is BatchStatus.CANCELLING:
                running.cancel()
            lane = _lane(batch)
            if running is None and lane not in self._running and len(self._running) < self._options.batches_at_once:
                task = asyncio.create_task(self._take(batch))
                self._running[lane] = (batch, task)
                task.add_done_callback(partial(self._ended, lane))
        begun = {batch.number for batch, _ in self._running.values()}
        self._waiting = tuple(batch for batch in unfinished if batch.number not in begun)

    def _ended(self, lane: tuple[str, str], task: asyncio.Task[None]) -> None:
        self._running.pop(lane, None)
        if not task.cancelled() and task.exception() is not None:
            log.error("a batch could not go on; it is tried again", exc_info=task.exception())
            asyncio.get_running_loop().call_later(_PAUSE_S, self._changed.set)
        else:
            self._changed.set()

    async def _take(self, batch: Batch) -> None:
        """Bring a batch to its next state."""
        if batch.status is BatchStatus.VALIDATING:
            await self._validate(batch)
        elif batch.status is BatchStatus.IN_PROGRESS:
            await self._answer(batch)
        elif batch.status is BatchStatus.FINALIZING:
            await self._finalize(batch)
        elif batch.status is BatchStatus.CANCELLING:
            await self._move(batch, BatchStatus.CANCELLED)

    async def _validate(self, batch: Batch) -> None:
        check = InputCheck(batch.endpoint, self._options.most_line_bytes)
        try:
            await self._read_input(batch, check)
        except StoredFileNotFound as error:
            check.problems.append(LineProblem("file_not_found", str(error), None, "input_file_id"))
        lines = await off_loop(check.finish, _CHECKED_BYTES)
        with suppress(WrongState):  # it was cancelled meanwhile
            if check.problems:
                await self._move(batch, BatchStatus.FAILED, tuple(check.problems))
            else:
                await self._thread.do(lambda store: store.begin(batch.number, lines, check.model))

    async def _read_input(self, batch: Batch, check: InputCheck) -> None:
        file = await self._thread.do(lambda store: store.input(batch))
        after = -1
        while not check.has_failed:
            read = partial(BatchStore.pieces, file=file.number, after=after, most_bytes=_CHECKED_BYTES)
            pieces, after = await self._thread.do(read)
            if not pieces:
                return
            await off_loop(partial(check.feed, b"".join(pieces)), _CHECKED_BYTES)

    async def _answer(self, batch: Batch) -> None:
        seconds = await self._thread.do(lambda store: batch.expires - store.now)
        file = await self._thread.do(lambda store: store.input(batch))
        # Not asyncio.wait_for, which loses a cancellation that comes together with the result.
        with anyio.move_on_after(max(0, seconds)) as window:
            await self._answer_lines(batch, file.number)
        if window.cancelled_caught:
            log.info("the window of %s is over; the rest of its lines is not answered", batch.id)
        with suppress(WrongState):  # it is being cancelled
            await self._move(batch, BatchStatus.FINALIZING)

    async def _answer_lines(self, batch: Batch, file: int) -> None:
        """Answer all lines, ``lines_at_once`` of them at a time."""
        todo = LineSource(self._thread, batch.number)
        self._lines_left[batch.number] = batch.left
        workers = [asyncio.create_task(self._work(batch, file, todo)) for _ in range(self._options.lines_at_once)]
        try:
            await asyncio.gather(*workers)
        finally:
            del self._lines_left[batch.number]
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, batch: Batch, file: int, todo: "LineSource") -> None:
        while (line := await todo.next()) is not None:
            text = await self._thread.do(partial(BatchStore.span, file=file, start=line.start, length=line.length))
            reply = await self._answers.answer(batch, line, text)
            finish = partial(
                BatchStore.finish_line, number=batch.number, line=line, text=reply.text, usage=reply.usage,
                failed=reply.failed,
            )  # fmt: skip
            # A reply that is there is kept, even where the batch is being cancelled.
            await asyncio.shield(self._thread.do(finish))
            self._lines_left[batch.number] -= 1

    async def _finalize(self, batch: Batch) -> None:
        def rest(store: BatchStore) -> bool:
            return bool(store.lines(batch.number, -1, 1))

        if await self._thread.do(rest):
            await self._thread.do(lambda store: store.expire_lines(batch.number, "batch_expired", _EXPIRED))
            await self._move(batch, BatchStatus.EXPIRED)
        else:
            await self._move(batch, BatchStatus.COMPLETED)

    async def _move(self, batch: Batch, status: BatchStatus, problems: tuple[LineProblem, ...] = ()) -> None:
        moved = await self._thread.do(lambda store: store.move(batch.number, status, problems))
        if moved.is_final:
            counts = f"{moved.completed} lines answered, {moved.failed} failed, of {moved.total}"
            log.info("%s is %s: %s", moved.id, moved.status.value, counts)


def _lane(batch: Batch) -> tuple[str, str]:
    """Return the lane of a batch: only one batch at a time may have it."""
    if batch.status is BatchStatus.VALIDATING:
        return "", "validating"
    if batch.status is BatchStatus.CANCELLING:
        return batch.id, "cancelling"
    return batch.owner, f"model {batch.model}"


class LineSource:
    """The lines of a batch that are not done, one after the other."""

    def __init__(self, thread: StoreThread[BatchStore], number: int) -> None:
        """Take the lines of batch ``number``."""
        self._thread = thread
        self._number = number
        self._lines: list[Line] = []
        self._rank = -1
        self._reading = asyncio.Lock()

    async def next(self) -> Line | None:
        """Return the next line, or None at the end."""
        async with self._reading:
            if not self._lines:
                read = partial(BatchStore.lines, number=self._number, after_rank=self._rank, limit=_FETCHED)
                self._lines = list(reversed(await self._thread.do(read)))
            if not self._lines:
                return None
            line = self._lines.pop()
            self._rank = line.rank
            return line
