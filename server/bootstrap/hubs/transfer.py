"""Downloads of large files: continued where they stopped, by this run or an earlier one, and checked by their hash."""

import fcntl
import hashlib
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedRandom
from pathlib import Path
from queue import Empty, SimpleQueue

import httpx

from glmserve.bootstrap.hubs.remote import DownloadSink, HubError

PART_SUFFIX = ".incomplete"
"""Of an unfinished file, as the hubs' own clients name it."""
_AT_ONCE = 2
_TRIES = 5
"""Requests in a row that bring nothing, after which a download fails."""
_CHUNK = 1 << 20
_TIMEOUT = httpx.Timeout(60.0, connect=15.0)
_RANGE_START = re.compile(r"bytes (\d+)-")
_NO_SUCH_RANGE = 416
_BUSY = 429
_FIRST_WAIT = 0.25


@dataclass(frozen=True, slots=True)
class Transfer:
    """One file to download."""

    name: str
    """For messages."""
    url: str
    target: Path
    size: int
    sha256: str = ""
    """Not checked where it is empty."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def download_all(transfers: Sequence[Transfer], sink: DownloadSink) -> None:
    """Download the files, some of them at once. An exception leaves unfinished files for the next call.

    Raises:
        HubError: one is not what the hub says it is, or cannot be written.
        httpx.HTTPError: the hub rejects it, or cannot be reached.
    """
    waiting: SimpleQueue[Transfer] = SimpleQueue()
    ended: SimpleQueue[BaseException | None] = SimpleQueue()
    for transfer in transfers:
        waiting.put(transfer)
    stop = threading.Event()
    with httpx.Client(timeout=_TIMEOUT, follow_redirects=True) as client:
        for _ in range(min(_AT_ONCE, len(transfers))):
            # Daemons: an interrupted program does not wait for a connection that is silent.
            threading.Thread(target=_work, args=(waiting, ended, client, sink, stop), daemon=True).start()
        try:
            for _ in transfers:
                if (error := ended.get()) is not None:
                    raise error
        finally:
            stop.set()


def sha256_of(path: Path, sink: DownloadSink | None = None) -> str:
    """Return the hash of a file, telling ``sink`` how much of it was read. Raises OSError."""
    digest = hashlib.sha256()
    size = path.stat().st_size
    with path.open("rb") as file:
        while block := file.read(_CHUNK):
            digest.update(block)
            if sink is not None:
                sink(path.name, file.tell(), size)
    return digest.hexdigest()


def _work(
    waiting: "SimpleQueue[Transfer]",
    ended: "SimpleQueue[BaseException | None]",
    client: httpx.Client,
    sink: DownloadSink,
    stop: threading.Event,
) -> None:
    while not stop.is_set():
        try:
            transfer = waiting.get_nowait()
        except Empty:
            return
        try:
            _Download(client, transfer, sink, stop).run()
        except OSError as error:
            ended.put(HubError(f"{transfer.target} cannot be written: {error.strerror or error}"))
        except Exception as error:
            ended.put(error)
        else:
            ended.put(None)


class _StoppedError(Exception):
    """Another download has failed, or the user has interrupted all."""


class _DamagedError(Exception):
    """All bytes are here, and they are wrong ones."""


class _Download:
    """The download of one file, in a thread."""

    def __init__(self, client: httpx.Client, transfer: Transfer, sink: DownloadSink, stop: threading.Event) -> None:
        self._client = client
        self._it = transfer
        self._sink = sink
        self._stop = stop
        self._digest = hashlib.sha256()

    def run(self) -> None:
        """Download the file. Raises HubError, httpx.HTTPError, OSError."""
        target = self._it.target
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + PART_SUFFIX)
        with _locked(part) as file:
            if not self._is_complete():  # by another process, for which this one waited
                self._fill_checked(file)
                file.flush()
                os.fsync(file.fileno())
                part.replace(target)
            else:
                part.unlink()

    def _is_complete(self) -> bool:
        target = self._it.target
        return target.is_file() and target.stat().st_size == self._it.size and sha256_of(target) == self._it.sha256

    def _fill_checked(self, file: BufferedRandom) -> None:
        """Download the missing rest of ``file``. Raises HubError where the outcome is wrong twice."""
        try:
            self._fill(file)
        except _DamagedError:
            # What an earlier run left may be damaged, or of another revision: once more, from the beginning.
            self._start_over(file)
            try:
                self._fill(file)
            except _DamagedError as error:
                self._start_over(file)
                raise HubError(f"{self._it.name} arrived damaged: {error}; pull it again") from None

    def _fill(self, file: BufferedRandom) -> None:
        self._take_over(file)
        most, tries = file.tell(), 0
        while file.tell() < self._it.size:
            try:
                self._request(file)
                failure: httpx.HTTPError | None = None
            except (httpx.TransportError, httpx.HTTPStatusError) as error:
                if isinstance(error, httpx.HTTPStatusError) and not _may_pass(error.response.status_code):
                    raise
                failure = error
            tries = 0 if file.tell() > most else tries + 1
            most = max(most, file.tell())
            if tries == _TRIES:
                raise failure or _DamagedError(f"it ends after {file.tell()} of {self._it.size} bytes")
            if file.tell() < self._it.size:
                self._stop.wait(_FIRST_WAIT * 2**tries)
        found = self._digest.hexdigest()
        if file.tell() > self._it.size:
            raise _DamagedError(f"it has more than {self._it.size} bytes")
        if self._it.sha256 and found != self._it.sha256:
            raise _DamagedError(f"its SHA-256 is {found} and not {self._it.sha256}")

    def _take_over(self, file: BufferedRandom) -> None:
        """Read the part that is there already."""
        self._digest = hashlib.sha256()
        file.seek(0)
        while block := file.read(_CHUNK):
            self._go_on()
            self._digest.update(block)
        self._sink(self._it.name, file.tell(), self._it.size)

    def _request(self, file: BufferedRandom) -> None:
        """Append the rest, as far as the connection holds. Raises httpx.HTTPError."""
        have = file.tell()
        headers = {"Accept-Encoding": "identity", **self._it.headers, **({"Range": f"bytes={have}-"} if have else {})}
        with self._client.stream("GET", self._it.url, headers=headers) as reply:
            if have and reply.status_code == _NO_SUCH_RANGE:
                return self._start_over(file)
            reply.raise_for_status()
            if have and not _continues(reply, have):
                self._start_over(file)
            for chunk in reply.iter_bytes(_CHUNK):
                self._go_on()
                file.write(chunk)
                self._digest.update(chunk)
                self._sink(self._it.name, file.tell(), self._it.size)
                if file.tell() > self._it.size:
                    return None
        return None

    def _start_over(self, file: BufferedRandom) -> None:
        file.seek(0)
        file.truncate()
        self._digest = hashlib.sha256()

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise _StoppedError


def _may_pass(status: int) -> bool:
    return status == _BUSY or status >= httpx.codes.INTERNAL_SERVER_ERROR


def _continues(reply: httpx.Response, at: int) -> bool:
    """Tell whether a reply goes on where the file ends: servers may ignore the range, and send it all."""
    found = _RANGE_START.match(reply.headers.get("Content-Range", ""))
    return reply.status_code == httpx.codes.PARTIAL_CONTENT and found is not None and int(found[1]) == at


@contextmanager
def _locked(part: Path) -> Iterator[BufferedRandom]:
    """Open an unfinished file for this process alone; waits for another one that downloads it."""
    while True:
        with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # The other process may have finished and renamed it meanwhile.
            if part.exists() and part.stat().st_ino == os.fstat(file.fileno()).st_ino:
                yield file
                return
