"""What requests cost a running server: how long its event loop stood still, and how much memory it took."""

import threading
import time
from dataclasses import dataclass
from pathlib import Path

import httpx


@dataclass
class Cost:
    """Of what was asked in the meantime."""

    pause: float = 0.0
    """Longest time in seconds that /health was not answered, of that in which the server was running."""
    memory: int = 0
    """Bytes that the server had resident at most, above what it had before."""


class Watch:
    """Asks /health all the time, on a connection of its own, while its block runs."""

    def __init__(self, url: str, pid: int) -> None:
        self.cost = Cost()
        self._http = httpx.Client(base_url=url, timeout=300)
        self._process = Path("/proc") / str(pid)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._poll)

    def __enter__(self) -> Cost:
        self._http.get("/health")
        (self._process / "clear_refs").write_text("5")  # the peak starts again from what there is now
        self._before = self._status("VmRSS")
        self._thread.start()
        return self.cost

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._http.close()
        self.cost.memory = max(0, self._status("VmHWM") - self._before)

    def _poll(self) -> None:
        while not self._ended.is_set():
            started, used = time.monotonic(), self._seconds()
            self._http.get("/health")
            # On a busy machine most of the time is others'.
            waited = min(time.monotonic() - started, self._seconds() - used)
            self.cost.pause = max(self.cost.pause, waited)
            time.sleep(0.002)

    def _seconds(self) -> float:
        """Return what its threads have had of the processors."""
        tasks = (self._process / "task").iterdir()
        return sum(_run_time(task) for task in tasks) / 1e9

    def _status(self, name: str) -> int:
        status = (self._process / "status").read_text()
        return 1024 * int(status.partition(f"{name}:")[2].split()[0])


def _run_time(task: Path) -> int:
    try:
        return int((task / "schedstat").read_text().split()[0])
    except (FileNotFoundError, ProcessLookupError):
        return 0
