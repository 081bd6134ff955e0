"""Measures the memory of processes and of all that they started: ``python -m bench.memory PID...``.

Resident counts each page in every process that maps it. Private is what a process would give back if it ended; file
is what stems from files that are mapped, such as a model's weights, and proportional shares it out among those that
map it. Read from ``/proc/PID/smaps_rollup``, so on Linux alone.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of one process, in bytes."""

    pid: int
    command: str
    resident: int
    proportional: int
    anonymous: int
    """Of the proportional: not of any file."""

    @property
    def file(self) -> int:
        """Of the proportional: pages of files that are mapped, or of shared memory."""
        return self.proportional - self.anonymous


def main() -> None:
    """Print a line for each process, and their sum."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pid", type=int, nargs="+")
    found = [measure(pid) for root in parser.parse_args().pid for pid in family(root)]
    whole = Memory(0, "all", *(sum(column) for column in zip(*map(_figures, found), strict=True)))
    print(f"{'resident':>10} {'proport.':>10} {'anonymous':>10} {'file':>10}  MiB")
    for memory in (*found, whole):
        figures = (*_figures(memory), memory.file)
        print(*(f"{value / 2**20:10.1f}" for value in figures), f" {memory.pid or ''} {memory.command[:60]}")


def family(root: int) -> Iterator[int]:
    """Yield ``root`` and all its descendants that still run."""
    yield root
    for task in (_PROC / str(root) / "task").iterdir():
        for child in (task / "children").read_text(encoding="ascii").split():
            yield from family(int(child))


def measure(pid: int) -> Memory:
    """Measure one process. Raises OSError where it is not there or not ours."""
    folder = _PROC / str(pid)
    lines = (folder / "smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    values = {name: 1024 * int(rest.split()[0]) for name, rest in (line.split(":", 1) for line in lines)}
    return Memory(pid, command_of(pid), values["Rss"], values["Pss"], values["Pss_Anon"])


def command_of(pid: int) -> str:
    """Return the command line of a process."""
    raw = (_PROC / str(pid) / "cmdline").read_bytes()
    return raw.replace(b"\0", b" ").decode(errors="replace").strip()


def _figures(memory: Memory) -> tuple[int, int, int]:
    return memory.resident, memory.proportional, memory.anonymous


if __name__ == "__main__":
    main()
