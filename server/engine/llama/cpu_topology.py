"""The cores of this machine that this process may use, and which numbers of threads are worth trying on them."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path, PurePosixPath

CLOSE_ENOUGH = 1.03
"""Times within this factor of the best one count as equal, and the fewest threads win: measurements vary as much."""

TRIES = 3
"""Steps measured for each number of threads; the fastest counts, as other programs only make steps slower."""

_CGROUPS = Path("/sys/fs/cgroup")
_CPUS = Path("/sys/devices/system/cpu")
_NODES = Path("/sys/devices/system/node")
_GPUS = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True, slots=True)
class Processor:
    """One hardware thread."""

    number: int
    core: str
    """Equal for the hardware threads of one core."""
    node: int = 0
    """NUMA node: memory of another one is slower."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Usable processors of the machine, within the affinity mask and the container's quota."""

    logical: int
    """Hardware threads."""
    physical: int
    """Cores: the hardware threads of one core share its arithmetic units, the only resource that a model needs."""


def find_cores() -> Cores:
    """Look at this machine."""
    cpus = os.sched_getaffinity(0)
    siblings = (_read(_CPUS / f"cpu{cpu}/topology/thread_siblings_list") or str(cpu) for cpu in cpus)
    return count_cores(siblings, _quota())


def list_processors() -> tuple[Processor, ...]:
    """Return the processors that this process may use."""
    nodes = {
        int(cpu.name.removeprefix("cpu")): int(folder.name.removeprefix("node"))
        for folder in _NODES.glob("node[0-9]*")
        for cpu in folder.glob("cpu[0-9]*")
    }
    return tuple(
        Processor(cpu, _read(_CPUS / f"cpu{cpu}/topology/thread_siblings_list") or str(cpu), nodes.get(cpu, 0))
        for cpu in sorted(os.sched_getaffinity(0))
    )


def list_gpus() -> tuple[int, ...]:
    """Return the numbers of the CUDA devices that this process may use, as its driver lists them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(int(number) for number in visible.split(",") if number.strip().isdecimal())
    return tuple(range(len(list(_GPUS.glob("*")))))


def count_cores(siblings: Iterable[str], quota: float | None) -> Cores:
    """Count them.

    Args:
        siblings: for each hardware thread that may be used, which ones share its core, as the kernel writes it.
        quota: processors' worth of time that the process gets; None is no limit.
    """
    each = list(siblings)
    most = len(each) if quota is None else max(1, int(quota + 0.5))
    return Cores(logical=max(1, min(len(each), most)), physical=max(1, min(len(set(each)), most)))


def candidates(cores: Cores) -> tuple[int, ...]:
    """Return the numbers of threads worth trying, the likeliest first.

    Generating is bound by memory, which some machines saturate with half of their cores; on others the second
    thread of a core helps to wait for it.
    """
    fewer = (cores.physical * 3 // 4, cores.physical // 2) if cores.physical >= 4 else ()
    return tuple(dict.fromkeys((cores.physical, *fewer, cores.logical)))


def batch_candidates(cores: Cores) -> tuple[int, ...]:
    """Return the numbers of threads worth trying for prompts, which are bound by arithmetic.

    The hardware threads of a core share its arithmetic units, which the kernels of some types do not fill alone.
    """
    return tuple(dict.fromkeys((cores.physical, cores.logical)))


def measure(
    step: Callable[[int], object], threads: tuple[int, ...], seconds: float, clock: Callable[[], float]
) -> dict[int, float]:
    """Time ``step`` with each number of threads; no new try is begun after ``seconds``.

    Returns:
        Seconds of the fastest step by number of threads, at least of the first one.
    """
    until = clock() + seconds
    fastest: dict[int, float] = {}
    for number in threads * TRIES:
        started = clock()
        if fastest and started >= until:
            break
        step(number)
        fastest[number] = min(clock() - started, fastest.get(number, float("inf")))
    return fastest


def best(fastest: Mapping[int, float]) -> int:
    """Return the number of threads to use: the fewest that are as fast as the best, within CLOSE_ENOUGH."""
    bound = min(fastest.values()) * CLOSE_ENOUGH
    return min(number for number, seconds in fastest.items() if seconds <= bound)


def _quota() -> float | None:
    """Processors' worth of time that control groups leave, of both versions; the tightest limit counts."""
    limits = [limit for folder in _groups() if (limit := _limit_of(folder)) is not None]
    return min(limits, default=None)


def _groups() -> list[Path]:
    """The folders of this process's control groups that may limit its processors, up to their roots."""
    folders: list[Path] = []
    for line in (_read(Path("/proc/self/cgroup")) or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = _CGROUPS / "cpu" if controllers else _CGROUPS
        folders += accumulate(PurePosixPath(path).parts[1:], lambda folder, part: folder / part, initial=root)
    return folders


def _limit_of(folder: Path) -> float | None:
    quota, _, period = (_read(folder / "cpu.max") or "").partition(" ")
    if not period:
        quota = _read(folder / "cpu.cfs_quota_us") or ""
        period = _read(folder / "cpu.cfs_period_us") or ""
    if not quota.isdigit() or not period.isdigit() or not int(period):
        return None  # "max", -1, or no such file
    return int(quota) / int(period)


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
