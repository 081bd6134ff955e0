"""``glmserve bench``: measure a running server, and report the figures of the field."""

import asyncio
import json
import random
import statistics
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from typing import TypeVar

import click
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from glmserve.cli.bench.client import BenchClient, BenchError, RequestTimes
from glmserve.cli.bench.workloads import WORKLOADS, Size, Workload
from glmserve.cli.client import ServerCallError, ServerClient
from glmserve.cli.options import DEFAULT_URL, client_key, output


@dataclass(frozen=True, slots=True)
class BenchReport:
    """One workload's figures; times in seconds, rates in tokens a second."""

    workload: str
    requests: int
    wall: float
    """From the first request to the last answer's end."""
    throughput: float
    """Tokens of all answers over ``wall``."""
    ttft_median: float
    """Time to first token; where some clients came late, theirs."""
    ttft_max: float
    tpot_median: float
    """Time per output token after the first, of a request."""
    tpot_mean: float
    """The mean of requests: the inverse of a rate where they came one by one and have the same length."""
    longest_pause: float
    """Between two pieces of text of one answer; where some clients came late, of the others' answers."""
    prompt_tokens: int
    cached_share: float
    """Of the prompts' tokens, how many the server had computed before."""


def summarise(workload: str, requests: Sequence[RequestTimes]) -> BenchReport:
    """Return the figures of ``requests``, which ran together."""
    wall = max(r.ended for r in requests) - min(r.started for r in requests)
    prompt_tokens = sum(r.prompt_tokens for r in requests)
    late = [r for r in requests if r.late]
    early = [r for r in requests if not r.late]
    ttft = [r.chunks[0] - r.started for r in late or early if r.chunks]
    tpot = [_per_token(r) for r in requests if r.completion_tokens > 1 and r.chunks]
    return BenchReport(
        workload=workload,
        requests=len(requests),
        wall=wall,
        throughput=sum(r.completion_tokens for r in requests) / wall,
        ttft_median=_median(ttft),
        ttft_max=max(ttft, default=0.0),
        tpot_median=_median(tpot),
        tpot_mean=statistics.fmean(tpot or [0.0]),
        longest_pause=max((_longest_pause(r) for r in early), default=0.0),
        prompt_tokens=prompt_tokens,
        cached_share=sum(r.cached_tokens for r in requests) / max(1, prompt_tokens),
    )


def _median(values: Sequence[float]) -> float:
    return statistics.median(values or [0.0])


def _per_token(request: RequestTimes) -> float:
    return (request.chunks[-1] - request.chunks[0]) / (request.completion_tokens - 1)


def _longest_pause(request: RequestTimes) -> float:
    pairs = zip(request.chunks, request.chunks[1:], strict=False)
    return max((later - earlier for earlier, later in pairs), default=0.0)


_T = TypeVar("_T")


@click.command()
@click.option("--url", default=DEFAULT_URL, show_default=True, help="URL of the server to measure.")
@click.option("--api-key", default="", metavar="KEY", help="API key, if the server requires one.  [GLMSERVE_API_KEY]")
@click.option("--model", default="", help="Model to measure.  [default: the first one]")
@click.option(
    "--workload",
    "names",
    multiple=True,
    type=click.Choice(list(WORKLOADS)),
    help="Workload to run; repeatable.  [default: all]",
)
@click.option(
    "--clients", default=8, show_default=True, type=click.IntRange(1, 1024), help="Number of concurrent clients."
)
@click.option("--max-tokens", type=click.IntRange(2), help="Tokens per answer.  [default: set by the workload]")
@click.option("--seed", type=int, help="Seed of the prompts, to repeat a run.  [default: new prompts]")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def bench(
    *,
    url: str,
    api_key: str,
    model: str,
    names: tuple[str, ...],
    clients: int,
    max_tokens: int | None,
    seed: int | None,
    as_json: bool,
) -> None:
    """Measure a running server: time to first token, time per output token, throughput, cached share.

    The workloads: `single`, one client; `own`, a different prompt for each client; `shared`, one long prompt for all
    clients, first uncached and then cached; `turns`, chats that send their whole history; `arriving`, long prompts
    that arrive while other answers are streamed; `many`, 64 clients at once.

    TTFT is the time to first token, TPOT the time per output token after the first, and ITL (inter-token latency)
    the longest pause between two pieces of an answer.
    """
    rng = random.Random(seed)
    workloads = [workload for name in names or WORKLOADS for workload in WORKLOADS[name](rng, Size(clients))]
    try:
        key = client_key((api_key,))
        client = BenchClient(url, model or _first_model(url, key), max_tokens, key=key)
        reports = run_fast(measure(client, workloads))
    except (BenchError, ServerCallError) as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps([asdict(report) for report in reports], ensure_ascii=False, indent=2))
    else:
        show(reports, output())


def _first_model(url: str, key: str) -> str:
    with closing(ServerClient(url, key)) as client:
        return client.model_names()[0]


def run_fast(main: Coroutine[object, object, _T]) -> _T:
    """Run ``main`` in the fastest event loop: the client shares its cores with the measured server."""
    if sys.platform == "win32":
        return asyncio.run(main)
    import uvloop  # noqa: PLC0415 - not there on Windows

    return uvloop.run(main)


async def measure(client: BenchClient, workloads: Sequence[Workload]) -> list[BenchReport]:
    """Run ``workloads`` one after another, showing how far each has come. Raises BenchError."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    reports = []
    screen = Console(stderr=True)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        for workload in workloads:
            answers = sum(len(asking.questions) for asking in workload.clients)
            task = progress.add_task(workload.name, total=answers)
            times = await client.run(workload, partial(progress.advance, task))
            progress.remove_task(task)
            reports.append(summarise(workload.name, times))
    return reports


_COLUMNS: tuple[tuple[str, Callable[[BenchReport], str]], ...] = (
    ("workload", lambda r: r.workload),
    ("requests", lambda r: str(r.requests)),
    ("seconds", lambda r: f"{r.wall:.2f}"),
    ("tokens/s", lambda r: f"{r.throughput:.1f}"),
    ("TTFT ms", lambda r: f"{r.ttft_median * 1e3:.0f}"),
    ("TTFT worst", lambda r: f"{r.ttft_max * 1e3:.0f}"),
    ("TPOT ms", lambda r: f"{r.tpot_median * 1e3:.1f}"),
    ("ITL worst", lambda r: f"{r.longest_pause * 1e3:.0f}"),
    ("prompt tokens", lambda r: str(r.prompt_tokens)),
    ("cached", lambda r: f"{r.cached_share:.0%}"),
)


_FITS = 104
"""Columns of a terminal that the table takes."""


def show(reports: Sequence[BenchReport], console: Console) -> None:
    """Print a row for each report; in a narrow terminal, a block of lines."""
    if console.width < _FITS:
        for report in reports:
            block = Table(box=None, show_header=False)
            for heading, figure in _COLUMNS:
                block.add_row(heading, figure(report))
            console.print(block, "")
        return
    table = Table(box=None, header_style="bold")
    for index, (heading, _) in enumerate(_COLUMNS):
        table.add_column(heading, no_wrap=True, justify="right" if index else "left")
    for report in reports:
        table.add_row(*(figure(report) for _, figure in _COLUMNS))
    console.print(table)
