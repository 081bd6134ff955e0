"""Validation of grammars in a process that may hang or crash, with a fair queue over callers."""

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from glmserve.engine.client.grammar_process import GrammarProcess, Verdict
from glmserve.engine.errors import EngineError, EngineUnavailable, QueueFull
from glmserve.engine.params import Grammar, size_problem

_Item = TypeVar("_Item")


class FairQueue(Generic[_Item]):
    """Round robin over callers: an item waits for one item of each other caller, and for its own caller's earlier ones.

    The length is bounded for each caller. The total is bounded too: past it, only callers with nothing queued may add.
    """

    def __init__(self, per_caller: int, total: int) -> None:
        """``per_caller`` and ``total`` are maximum lengths."""
        self._per_caller = per_caller
        self._total = total
        self._items: OrderedDict[str, deque[_Item]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._items.values()))

    def add(self, caller: str, item: _Item) -> None:
        """Append ``item``. Raises QueueFull."""
        queued = len(self._items.get(caller, ()))
        if queued >= self._per_caller or (queued and len(self) >= self._total):
            raise QueueFull(queued)
        self._items.setdefault(caller, deque()).append(item)

    def take(self) -> _Item | None:
        """Remove and return the next item, or None when the queue is empty."""
        if not self._items:
            return None
        caller, items = self._items.popitem(last=False)
        item = items.popleft()
        if items:
            self._items[caller] = items
        return item

    def discard(self, caller: str, item: _Item) -> None:
        """Remove ``item`` if it is still queued."""
        items = self._items.get(caller)
        if items is None or item not in items:
            return
        items.remove(item)
        if not items:
            del self._items[caller]

    def drain(self) -> list[_Item]:
        """Remove and return everything."""
        items = [item for queued in self._items.values() for item in queued]
        self._items.clear()
        return items


_PER_CALLER = 64
_TOTAL = 256
_REMEMBERED = 4096
"""Verdicts, each of a digest and at most a few hundred characters."""

log = logging.getLogger(__name__)


class TooManyCostlyGrammars(QueueFull):
    """The caller's grammars have used up the time that checks may take."""

    def __init__(self, count: int, retry_after: int) -> None:
        """``retry_after`` is in seconds."""
        EngineError.__init__(
            self,
            f"{count} of your grammars or schemas were too costly within the last minute, so new ones are not checked; "
            f"make them simpler, or try again in {retry_after} s",
        )
        self.retry_after = retry_after


class CostlyGrammars:
    """Counts, for each caller, the checks that hit a limit lately: each costs a second of a processor. Pure."""

    MOST = 16
    SECONDS = 60.0

    def __init__(self) -> None:
        """Nothing is counted yet."""
        self._times: dict[str, deque[float]] = {}

    def add(self, caller: str, now: float) -> None:
        """Count one."""
        self._forget(now)
        self._times.setdefault(caller, deque(maxlen=self.MOST)).append(now)

    def check(self, caller: str, now: float) -> None:
        """Raise TooManyCostlyGrammars where ``caller`` had as many as are allowed."""
        self._forget(now)
        times = self._times.get(caller)
        if times is not None and len(times) >= self.MOST:
            raise TooManyCostlyGrammars(len(times), max(1, round(times[0] + self.SECONDS - now)))

    def _forget(self, now: float) -> None:
        for caller, times in tuple(self._times.items()):
            while times and times[0] <= now - self.SECONDS:
                times.popleft()
            if not times:
                del self._times[caller]


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    grammar: Grammar
    digest: bytes
    caller: str
    result: asyncio.Future[Verdict]


class GrammarValidator:
    """The verdicts on grammars. Belongs to one event loop; the process starts with the first grammar."""

    def __init__(
        self, model_path: Path, end_tokens: tuple[str, ...] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``model_path`` is a GGUF that the engine has loaded, with these ``end_tokens``."""
        self._process = GrammarProcess(model_path, end_tokens)
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "grammar-check")
        self._verdicts: OrderedDict[bytes, str] = OrderedDict()
        """By digest of the grammar: the grammars themselves are as large as requests may be."""
        self._queue: FairQueue[_Waiting] = FairQueue(_PER_CALLER, _TOTAL)
        self._costly = CostlyGrammars()
        self._working: asyncio.Task[None] | None = None

    async def rejection(self, grammar: Grammar, caller: str) -> str:
        """Return why ``grammar`` cannot be used, or nothing if it can.

        Raises:
            QueueFull: too many grammars of ``caller`` are waiting, or were too costly.
            EngineUnavailable: that could not be found out.
        """
        if problem := size_problem(grammar):
            return problem
        digest = _digest(grammar)
        known = self._remembered(digest)
        if known is not None:
            return known
        self._costly.check(caller, self._clock())
        waiting = _Waiting(grammar, digest, caller, asyncio.get_running_loop().create_future())
        self._queue.add(caller, waiting)
        if self._working is None:
            self._working = asyncio.ensure_future(self._work())
        try:
            return (await waiting.result).rejection
        finally:
            self._queue.discard(caller, waiting)

    def close(self) -> None:
        """End the process; nothing is checked any more."""
        if self._working is not None:
            self._working.cancel()
        for waiting in self._queue.drain():
            if not waiting.result.done():
                waiting.result.set_exception(_closed())
        self._process.end()
        with suppress(RuntimeError):  # the system gives no thread; the process was killed all the same
            self._thread.submit(self._process.close)
        self._thread.shutdown(wait=False)

    async def _work(self) -> None:
        """Check queued grammars until the queue is empty."""
        try:
            while (waiting := self._queue.take()) is not None:
                await self._answer(waiting)
        finally:
            self._working = None

    async def _answer(self, waiting: _Waiting) -> None:
        result = waiting.result
        try:
            verdict = await self._verdict(waiting)
        except BaseException as error:
            if not result.done():
                result.set_exception(error if isinstance(error, Exception) else _closed())
            if not isinstance(error, Exception):
                raise
        else:
            if not result.done():
                result.set_result(verdict)

    async def _verdict(self, waiting: _Waiting) -> Verdict:
        known = self._remembered(waiting.digest)
        if known is not None:
            return Verdict(known)
        self._costly.check(waiting.caller, self._clock())
        loop = asyncio.get_running_loop()
        try:
            checking = loop.run_in_executor(self._thread, self._process.check, waiting.grammar)
        except RuntimeError as error:  # the system gives no thread
            raise EngineUnavailable(f"the grammar of the answer could not be checked: {error}; try again") from None
        verdict = await checking
        self._remember(waiting.digest, verdict.rejection)
        if verdict.too_much:
            self._costly.add(waiting.caller, self._clock())
            log.info("a grammar of %d characters was too costly to check", len(waiting.grammar.source))
        return verdict

    def _remembered(self, digest: bytes) -> str | None:
        known = self._verdicts.get(digest)
        if known is not None:
            self._verdicts.move_to_end(digest)
        return known

    def _remember(self, digest: bytes, rejection: str) -> None:
        self._verdicts[digest] = rejection
        while len(self._verdicts) > _REMEMBERED:
            self._verdicts.popitem(last=False)


def _closed() -> EngineUnavailable:
    return EngineUnavailable("the server is shutting down and did not check this grammar; send the request again")


def _digest(grammar: Grammar) -> bytes:
    """Return a name of ``grammar`` that takes little memory and cannot be forged."""
    head = f"{grammar.kind.value}:{grammar.trusted:d}:".encode()
    return hashlib.sha256(head + grammar.source.encode(errors="surrogatepass")).digest()
