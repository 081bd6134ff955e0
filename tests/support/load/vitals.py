"""What processes hold of the system: memory, file descriptors, threads. Read from ``/proc``."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Vitals:
    """Of one process, at one moment."""

    memory: int
    """Resident bytes that are of no file."""
    files: int
    """Open file descriptors."""
    threads: int


def family(pid: int) -> dict[int, str]:
    """Return a process and its children, with a name for each."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    named = {int(child): _name(int(child)) for child in children}
    return {pid: "server", **named}


def _name(pid: int) -> str:
    command = Path(f"/proc/{pid}/cmdline").read_bytes()
    return "engine or checker" if b"spawn_main" in command else "resource tracker"


def measure(pid: int) -> Vitals:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    values = {name: rest.split()[0] for name, _, rest in (line.partition(":") for line in lines) if rest.strip()}
    files = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    return Vitals(int(values["RssAnon"]) * 1024, files, int(values["Threads"]))


def growth(figures: Sequence[float]) -> float:
    """Return how much more the last quarter of ``figures`` is than the quarter after the first half, by medians."""
    quarter = len(figures) // 4
    return statistics.median(figures[-quarter:]) - statistics.median(figures[-2 * quarter : -quarter])
