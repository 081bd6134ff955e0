"""Prompts on the disk: saved when there is time, and read when a prompt begins with one.

``prompt_index`` decides what is worth it, ``prompt_files`` reads and writes. One thread reads, another one writes. The
engine's own thread only copies a state from the cells, while nothing runs. While something runs, states are taken from
the offloaded copies, and the writing thread gets a small share of the time.
"""

import logging
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from glmserve.engine.kv_cache.ops import UNKNOWN
from glmserve.engine.kv_cache.prompt_files import Cancelled, PromptFiles
from glmserve.engine.kv_cache.prompt_index import MIN_NEW, MIN_TOKENS, PromptIndex, SavedMatch, TokenHashes
from glmserve.engine.model_runner import ModelRunner
from glmserve.engine.scheduler.scheduler import MAX_ENDED, Scheduler
from glmserve.engine.sequence import Sequence

log = logging.getLogger(__name__)

_BUSY_SHARE = 20
"""While a sequence runs, the writing thread works 1/N of the time."""

_RETRY_SECONDS = 60.0
"""Time without writing after the disk was full, or failed otherwise."""

CLOSE_SECONDS = 2.0
"""Time in which an engine that is stopped saves what is not saved yet."""


@dataclass(frozen=True, slots=True)
class _Ended:
    """Tokens that a sequence has left in the cache."""

    slot: int
    fingerprint: str
    keys: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Restored:
    """A state from the disk."""

    state: bytearray
    length: int
    """Tokens of it."""
    shared: int
    """Of these, how many the prompt begins with."""


class PromptDisk:
    """The saved prompts of one engine. All methods belong to the engine's thread."""

    def __init__(self, runner: ModelRunner, scheduler: Scheduler, files: PromptFiles) -> None:
        """Begin to read the headers of ``files``."""
        self._runner = runner
        self._scheduler = scheduler
        self._files = files
        names = ["", *runner.adapters]
        self._fingerprints = {name: _fingerprint(runner, name) for name in names}
        self._index = PromptIndex(cuts=runner.cache_traits.cuts)
        self._lock = threading.Lock()
        """Of the index."""
        self._reader = ThreadPoolExecutor(1, "prompt-reader")
        self._writer = ThreadPoolExecutor(1, "prompt-writer")
        self._scanned = self._reader.submit(self._look_round)
        self._restoring: dict[int, Future[_Restored | None]] = {}
        self._ended: deque[_Ended] = deque(maxlen=MAX_ENDED)
        self._writing: Future[None] | None = None
        self._is_busy = False
        self._closing = threading.Event()
        self._cancelled = threading.Event()
        self._retry_at = 0.0
        self._bytes_per_token = 0.0
        self.saved = 0
        self.restored = 0

    def restore(self, sequence: Sequence) -> "Future[_Restored | None] | None":
        """Begin to read the saved prefix of ``sequence``; None if the disk has none."""
        self._is_busy = True
        cached, limit = self._scheduler.cached_length(sequence), sequence.num_matchable_tokens
        if limit < cached + MIN_NEW or (self._scanned.done() and not len(self._index)):
            return None
        hashes = TokenHashes(
            self._files.secret, self._fingerprints[self._adapter_of(sequence)], sequence.prompt_keys[:limit]
        )
        if not self._scanned.done():
            future = self._reader.submit(self._find, hashes, cached)
        elif (match := self._match(hashes, cached)) is not None:
            future = self._reader.submit(self._read, match, hashes)
        else:
            return None
        self._restoring[sequence.request_id] = future
        return future

    def adopt(self, sequence: Sequence) -> None:
        """Put the prefix that was read for ``sequence`` beside the offloaded prefixes, from where it starts."""
        future = self._restoring.pop(sequence.request_id, None)
        if future is None or _log_failure(future) or (found := future.result()) is None:
            return
        if self._scheduler.cached_length(sequence) >= found.shared:  # a prompt with the same beginning was first
            return
        tokens = sequence.prompt_keys[: found.shared] + (UNKNOWN,) * (found.length - found.shared)
        self._runner.put_copy(self._scheduler.cache.adopt(tokens), found.state)
        self.restored += 1

    def forget(self, request_id: int) -> None:
        """The request was aborted."""
        self._restoring.pop(request_id, None)

    def save(self, *, idle: bool) -> bool:
        """Begin to write one more prompt; False if there is none. While not ``idle``: only an offloaded one."""
        self._is_busy = not idle
        self._remember()
        if self._writing is not None:
            if not self._writing.done():
                return True
            _log_failure(self._writing)
            self._writing = None
        if time.monotonic() < self._retry_at:
            return False
        for ended in reversed(tuple(self._ended)):  # newest first: a conversation that goes on is there
            key = self._scheduler.cache.copy_key(ended.keys)
            if key is None and not idle:
                continue
            self._ended.remove(ended)
            if (state := self._state(ended, key)) is not None:
                self._writing = self._writer.submit(self._write, ended.fingerprint, self._hashes(ended), state)
                return True
        return False

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Save all prefixes that are not saved yet, newest first, as far as ``seconds`` go; end the threads."""
        deadline = time.monotonic() + seconds
        self._closing.set()
        while (left := deadline - time.monotonic()) > 0 and self.save(idle=True):
            if self._writing is not None:
                wait((self._writing,), left)
        self._cancelled.set()
        for pool in (self._reader, self._writer):
            pool.shutdown(cancel_futures=True)

    def _remember(self) -> None:
        for sequence in self._scheduler.take_ended():
            length = sequence.num_computed_tokens
            if length >= MIN_TOKENS:
                keys = sequence.keys(0, sequence.tokens[:length])
                self._ended.append(_Ended(sequence.slot, self._fingerprints[self._adapter_of(sequence)], keys))

    def _adapter_of(self, sequence: Sequence) -> str:
        start = sequence.prompt_ids[: sequence.num_prefix_tokens]
        adapters = self._runner.adapters.items()
        tuned = (name for name, v in adapters if (v.salt, v.prefix_tokens) == (sequence.salt, start))
        return "" if not sequence.salt and not start else next(tuned)

    def _hashes(self, ended: _Ended) -> TokenHashes:
        return TokenHashes(self._files.secret, ended.fingerprint, ended.keys)

    def _state(self, ended: _Ended, key: int | None) -> bytearray | None:
        """Return the state of ``ended``, from its copy or its slot, where it is there yet and worth saving."""
        if key is None and not self._scheduler.cache.is_idle(ended.slot, ended.keys):
            return None
        if len(ended.keys) * self._bytes_per_token > self._files.most_state_bytes:
            return None
        with self._lock:
            if not self._index.is_worth_saving(self._hashes(ended)):
                return None
        state = self._runner.read_state(ended.slot) if key is None else self._runner.read_copy(key)
        self._bytes_per_token = len(state) / len(ended.keys)
        return state

    def _match(self, hashes: TokenHashes, cached: int) -> SavedMatch | None:
        with self._lock:
            return self._index.start(hashes, cached, self._runner.info.cache_cells)

    def _find(self, hashes: TokenHashes, cached: int) -> _Restored | None:
        match = self._match(hashes, cached)
        return None if match is None else self._read(match, hashes)

    def _read(self, match: SavedMatch, hashes: TokenHashes) -> _Restored | None:
        started = time.monotonic()
        found = self._files.read(match.saved)
        if found is None:
            with self._lock:
                self._index.remove((match.saved.name,))
            return None
        shared = match.exactly(hashes, found.marks)
        log.info("%d tokens of a prompt were read from the disk in %.3f s", shared, time.monotonic() - started)
        return _Restored(found.state, match.saved.length, shared)

    def _write(self, fingerprint: str, hashes: TokenHashes, state: bytearray) -> None:
        try:
            saved = self._files.write(fingerprint, hashes, state, self._pause)
        except Cancelled:
            return
        except OSError as error:
            self._retry_at = time.monotonic() + _RETRY_SECONDS
            log.warning("a prompt could not be saved (--prompt-disk): %s", error)
            return
        if saved is None:
            return
        with self._lock:
            inside = self._index.inside(hashes)
            self._index.remove(inside)
            self._index.add(saved)
        self._files.remove(inside)
        self.saved += 1
        self._look_round()

    def _look_round(self) -> None:
        """Note which files this and other processes have added and removed."""
        names = frozenset[str]().union(*map(self._files.names, self._fingerprints.values()))
        with self._lock:
            known = self._index.names
            self._index.remove(known - names)
        for name in names - known:
            if (saved := self._files.describe(name)) is not None:
                with self._lock:
                    self._index.add(saved)

    def _pause(self, seconds: float) -> None:
        if self._cancelled.is_set():
            raise Cancelled
        if self._is_busy and not self._closing.is_set():
            self._closing.wait(seconds * (_BUSY_SHARE - 1))


def _fingerprint(runner: ModelRunner, adapter: str) -> str:
    """Of all that a state depends on; the number is in the keys of an adapter's tokens."""
    number = runner.adapters[adapter].number if adapter else 0
    return f"{number} {runner.state_fingerprint(adapter)}"


def _log_failure(future: "Future[_Restored | None] | Future[None]") -> bool:
    """Whether a thread ended with an unexpected error; the prompt is then computed."""
    error = future.exception()
    if error is not None:
        log.error("a saved prompt failed with an unexpected error", exc_info=error)
    return error is not None
