"""Writes the measurements into the page: tables and a plot between two marks, the words around them being by hand."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from bench.compare import floors
from bench.compare.floors import FLOOR
from bench.compare.plot import Bar, draw
from bench.compare.results import Metric, Spread, Unit, figures, ratios, spread
from bench.compare.servers import BASELINE, EXAMPLE, LLAMA_SERVER, OURS
from bench.compare.suites import SUITES, Suite
from bench.tables import write_between

MARK = "measured"
"""Of the place in the page."""

_PEERS = (LLAMA_SERVER.name, EXAMPLE.name)


@dataclass(frozen=True, slots=True)
class Row:
    """A figure of a workload."""

    workload: str
    title: str
    metric: Metric
    unit: str
    goal: str = ""
    smaller_is_better: bool = True


_ROWS = (
    Row("shared prompt, new", "the same new prompt from all clients", lambda r: r.wall, "s", "7"),
    Row("shared prompt, known", "the same prompt again", lambda r: r.wall, "s", "1.4"),
    Row(
        "long prompts arriving", "longest pause of a stream while prompts arrive", lambda r: r.longest_pause, "s", "25"
    ),
    Row("long prompts arriving", "until streams and prompts are answered", lambda r: r.wall, "s", "0.97"),
    Row("own prompts", "a prompt of its own for each client", lambda r: r.wall, "s", "1.25"),
    Row("turns", "chats of five turns", lambda r: r.wall, "s", "1.25"),
    Row("single", "one stream", lambda r: 1 / r.tpot_mean, "tokens/s", "", smaller_is_better=False),
    Row("many", "64 clients", lambda r: r.throughput, "tokens/s", "1.05", smaller_is_better=False),
)


def write(page: Path, units: Sequence[Unit], command: str, mark: str = MARK) -> None:
    """Replace the text between the marks of ``page``, and the plot beside it. Raises ValueError without the marks.

    Tables at another mark than the usual one have a plot of their own.
    """
    plot = page.with_name(f"{page.stem}{'' if mark == MARK else '-' + mark}.svg")
    write_between(page, mark, "\n".join(_measured(units, command, plot.name)))
    plot.write_text(draw(list(_bars(units))), encoding="utf-8")


def _measured(units: Sequence[Unit], command: str, plot: str) -> Iterator[str]:
    suites = [suite for name, suite in SUITES.items() if any(unit.suite == name for unit in units)]
    yield f"Made by `{command}` on {_machine()}, llama.cpp of llama-cpp-python {version('llama-cpp-python')}."
    yield f"\n![How many times better than each peer; whiskers from the worst to the best round]({plot})"
    for suite in suites:
        rounds = len({unit.round for unit in units if unit.suite == suite.name})
        yield f"\n### {suite.title[0].upper()}{suite.title[1:]}\n"
        yield f"Medians of {rounds} round{'s' * (rounds > 1)}; in brackets the least and the most."
        yield from _table(units, suite)
        yield from _floor(units, suite)
        yield from floors.table(units, suite)
        yield from _processor(units, suite)
        yield from _memory(units, suite)


def _table(units: Sequence[Unit], suite: Suite) -> Iterator[str]:
    yield "\n| figure | glmserve | llama-server | examples/server | × llama-server | goal | × examples/server |"
    yield "|---|---|---|---|---|---|---|"
    for row in _ROWS:
        found = [figures(units, suite.name, server, row.workload, row.metric) for server in (OURS.name, *_PEERS)]
        if any(found):
            better = [ratios(found[0], other, smaller_is_better=row.smaller_is_better) for other in found[1:]]
            shown = " | ".join(_short(spread(each.values()), row.unit) for each in found)
            yield f"| {row.title} | {shown} | {_long(better[0])} | {row.goal} | {_long(better[1])} |"


def beside_baseline(units: Sequence[Unit]) -> Iterator[str]:
    """Yield a table of how many times better this server is than the baseline, where that was measured."""
    yield "| suite | figure | × baseline |\n|---|---|---|"
    for name, suite in SUITES.items():
        for row in _ROWS:
            both = [figures(units, name, server.name, row.workload, row.metric) for server in (OURS, BASELINE)]
            better = ratios(*both, smaller_is_better=row.smaller_is_better)
            if better:
                yield f"| {suite.title} | {row.title} | {_long(better)} |"


def _floor(units: Sequence[Unit], suite: Suite) -> Iterator[str]:
    floor = {unit.round: unit.rates for unit in units if (unit.suite, unit.server) == (suite.name, FLOOR)}
    answer = {number: rates["answer"] for number, rates in floor.items()}
    ours = figures(units, suite.name, OURS.name, "single", lambda r: 1 / r.tpot_mean)
    reached = ratios(ours, answer, smaller_is_better=False)
    if reached:
        prompt = spread(rates["prompt"] for rates in floor.values())
        yield f"\nllama-bench, without a server: {_short(prompt, 'tokens/s')} of a prompt and"
        yield f"{_short(spread(answer.values()), 'tokens/s')} of an answer. One stream of this server reaches"
        yield f"{_long(reached)} of the latter (goal: 0.99)."


def _processor(units: Sequence[Unit], suite: Suite) -> Iterator[str]:
    """Processor time of a streamed token, for suites that measure it."""
    mine = [unit for unit in units if unit.suite == suite.name and unit.workload == "many"]
    if mine:
        yield "\n| processor time of a streamed token | µs |\n|---|---|"
    for name in (OURS.name, *_PEERS):
        for role in sorted({role for unit in mine if unit.server == name for role in unit.processor}):
            costs = spread(_cost(unit, role) for unit in mine if unit.server == name)
            if costs and costs.median >= 1:
                yield f"| {name}, {role} | {_long(costs)} |"


def _cost(unit: Unit, role: str) -> float:
    report = unit.reports["many"]
    return unit.processor.get(role, 0.0) * 1e6 / (report.throughput * report.wall)


def _memory(units: Sequence[Unit], suite: Suite) -> Iterator[str]:
    yield "\n| memory, after the workload that takes most | resident | proportional | of it in no file |"
    yield "|---|---|---|---|"
    for name in (OURS.name, *_PEERS):
        # The most of each round: the workloads have servers of their own.
        mine = [_most(units, suite.name, name, number) for number in _rounds(units, suite.name, name)]
        kinds = [spread(each[kind] / 2**30 for each in mine) for kind in ("resident", "proportional", "anonymous")]
        if mine:
            yield f"| {name} | {' | '.join(_short(kind, 'GiB') for kind in kinds)} |"


def _rounds(units: Sequence[Unit], suite: str, server: str) -> list[int]:
    return sorted({unit.round for unit in units if (unit.suite, unit.server) == (suite, server)})


def _most(units: Sequence[Unit], suite: str, server: str, number: int) -> Mapping[str, int]:
    mine = (unit.memory for unit in units if (unit.suite, unit.server, unit.round) == (suite, server, number))
    return max(mine, key=lambda memory: memory["proportional"])


def _bars(units: Sequence[Unit]) -> Iterator[Bar]:
    for name, suite in SUITES.items():
        for row in _ROWS:
            ours = figures(units, name, OURS.name, row.workload, row.metric)
            for peer in _PEERS:
                theirs = figures(units, name, peer, row.workload, row.metric)
                better = ratios(ours, theirs, smaller_is_better=row.smaller_is_better)
                if better:
                    yield Bar(f"{row.title} ({suite.title})", peer, better)


def _short(value: Spread | None, unit: str) -> str:
    return f"{_number(value.median)} {unit}" if value else "–"


def _long(value: Spread | None) -> str:
    return f"{_number(value.median)} ({_number(value.least)}–{_number(value.most)})" if value else "–"


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} cores of {names[0]}" if names else "an unnamed processor"
