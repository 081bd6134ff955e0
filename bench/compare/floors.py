"""The time that llama.cpp alone takes for a workload's tokens: no server on the same kernels can be faster.

The tokens are those that this server had to compute: prompts without their cached part, and answers without their
first token, which a prompt gives. The rates are those of llama-bench and llama-batched-bench in the same round.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.compare.results import Unit, figures, ratios, spread
from bench.compare.servers import LLAMA_SERVER, OURS
from bench.compare.suites import Suite
from glmserve.cli.bench.command import BenchReport

FLOOR = "llama-bench"
"""The name under which the rates are kept: tokens a second, of a prompt, of one answer and of several at once."""
STREAMS = (4, 8)
"""Answers at once in the workloads below."""


@dataclass(frozen=True, slots=True)
class Bounded:
    """A workload whose time is that of its tokens."""

    workload: str
    title: str
    streams: int


BOUNDED = (
    Bounded("shared prompt, new", "the same new prompt from all clients", 8),
    Bounded("shared prompt, known", "the same prompt again", 8),
    Bounded("own prompts", "a prompt of its own for each client", 8),
    Bounded("turns", "chats of five turns", 4),
)


def rate_of(streams: int) -> str:
    """Return the name of the rate of N answers at once."""
    return f"{streams} answers"


def floor_seconds(report: BenchReport, rates: Mapping[str, float], streams: int) -> float:
    """Return the time of a workload's tokens at these rates."""
    prompts = report.prompt_tokens * (1 - report.cached_share)
    answers = report.throughput * report.wall - report.requests
    return prompts / rates["prompt"] + answers / rates[rate_of(streams)]


def table(units: Sequence[Unit], suite: Suite) -> Iterator[str]:
    """Yield the lines of a table; nothing where the rates were not measured."""
    rates = {unit.round: unit.rates for unit in units if (unit.suite, unit.server) == (suite.name, FLOOR)}
    rows = [row for each in BOUNDED if (row := _row(units, suite, rates, each))]
    if rows:
        yield "\nThe time of the tokens alone, by the rates of `llama-bench` and `llama-batched-bench`:\n"
        yield "| figure | without a server | glmserve, of this | llama-server, × this: the most that is possible |"
        yield "|---|---|---|---|"
        yield from rows


def _row(units: Sequence[Unit], suite: Suite, rates: Mapping[int, Mapping[str, float]], bounded: Bounded) -> str:
    reports = {
        unit.round: unit.reports[bounded.workload]
        for unit in units
        if (unit.suite, unit.server) == (suite.name, OURS.name) and bounded.workload in unit.reports
    }
    floors = {
        number: floor_seconds(report, rates[number], bounded.streams)
        for number, report in reports.items()
        if rate_of(bounded.streams) in rates.get(number, {})
    }
    floor = spread(floors.values())
    if floor is None:
        return ""
    ours = ratios({n: report.wall for n, report in reports.items()}, floors, smaller_is_better=True)
    theirs = figures(units, suite.name, LLAMA_SERVER.name, bounded.workload, lambda report: report.wall)
    most = ratios(floors, theirs, smaller_is_better=True)
    shown = " | ".join(
        f"{each.median:.2f} ({each.least:.2f}–{each.most:.2f})" if each else "–" for each in (ours, most)
    )
    return f"| {bounded.title} | {floor.median:.1f} s | {shown} |"
