"""Progress of long work on standard error: bars in a terminal, a line from time to time elsewhere."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from glmserve.bootstrap.hubs.remote import DownloadSink

_LINE_SECONDS = 10.0


@contextmanager
def download_progress(total_bytes: int) -> Iterator[DownloadSink]:
    """Show downloads while the block runs; yields the callback for their progress."""
    console = Console(stderr=True)
    if console.is_terminal:
        with _bars(console) as bars:
            yield _Bars(bars)
    else:
        yield _Lines(total_bytes)


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(),
        console=console, transient=True,
    )  # fmt: skip


class _Bars:
    """A bar for each file."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._lock = threading.Lock()

    def __call__(self, name: str, done: int, total: int) -> None:
        with self._lock:
            if name not in self._tasks:
                # What an earlier run left does not count as speed.
                self._tasks[name] = self._bars.add_task(name, total=total, completed=done)
        self._bars.update(self._tasks[name], completed=done)


class _Lines:
    """A line about all files, from time to time."""

    def __init__(self, total_bytes: int) -> None:
        self._total = total_bytes
        self._done: dict[str, int] = {}
        self._next = time.monotonic() + _LINE_SECONDS
        self._lock = threading.Lock()

    def __call__(self, name: str, done: int, total: int) -> None:  # noqa: ARG002 - a DownloadSink
        with self._lock:
            self._done[name] = done
            if time.monotonic() < self._next:
                return
            self._next += _LINE_SECONDS
            have = sum(self._done.values())
        click.echo(f"downloaded {have / 1e9:.2f} of {max(self._total, have) / 1e9:.2f} GB", err=True)
