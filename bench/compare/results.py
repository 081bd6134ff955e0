"""The measurements: one line of JSON for each server, workload and round, so that a run can be interrupted."""

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from glmserve.cli.bench.command import BenchReport

Metric = Callable[[BenchReport], float]


@dataclass(frozen=True, slots=True)
class Unit:
    """One server, one workload of a suite, one round."""

    suite: str
    workload: str
    server: str
    round: int
    reports: Mapping[str, BenchReport] = field(default_factory=dict)
    """By name: some workloads have two parts."""
    processor: Mapping[str, float] = field(default_factory=dict)
    """By process: seconds of processor time, of the whole workload."""
    memory: Mapping[str, int] = field(default_factory=dict)
    """Bytes after the workload: resident, proportional, anonymous."""
    rates: Mapping[str, float] = field(default_factory=dict)
    """Of llama-bench: tokens a second."""


def load(path: Path) -> list[Unit]:
    """Read the results; empty where there is no file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [_unit(json.loads(line)) for line in lines]


def append(path: Path, unit: Unit) -> None:
    """Add a unit."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(unit), ensure_ascii=False) + "\n")


def _unit(document: dict[str, object]) -> Unit:
    reports = document.pop("reports")
    assert isinstance(reports, dict)
    return Unit(**document, reports={name: BenchReport(**values) for name, values in reports.items()})  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure of several rounds."""

    median: float
    least: float
    most: float


def spread(values: Iterable[float]) -> Spread | None:
    """Return the spread of ``values``; None where there are none."""
    known = list(values)
    return Spread(statistics.median(known), min(known), max(known)) if known else None


def figures(units: Sequence[Unit], suite: str, server: str, workload: str, metric: Metric) -> dict[int, float]:
    """Return a server's figure of each round."""
    return {
        unit.round: metric(unit.reports[workload])
        for unit in units
        if (unit.suite, unit.server) == (suite, server) and workload in unit.reports
    }


def ratios(ours: Mapping[int, float], theirs: Mapping[int, float], *, smaller_is_better: bool) -> Spread | None:
    """Return how many times better ours are, round by round: other load on a machine affects neighbours alike."""
    both = sorted(ours.keys() & theirs.keys())
    pairs = ((theirs[r], ours[r]) if smaller_is_better else (ours[r], theirs[r]) for r in both)
    return spread(over / under for over, under in pairs if under)
