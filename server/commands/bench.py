"""``glmserve bench``: how fast a running server is, on the traffic that its users send."""

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn
from rich.table import Table

from server.commands.bench_client import BenchClient, BenchError
from server.commands.bench_report import Report, summarise
from server.commands.bench_workloads import WORKLOADS, Workload
from server.commands.chat_client import ChatClient, ChatError

_PLAIN_WIDTH = 120
"""Columns of the table where the output is no terminal."""


@click.command()
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="The server to measure.")
@click.option("--model", default="", help="One of its models; the first one unless said.")
@click.option(
    "--workload", "names", multiple=True, type=click.Choice(list(WORKLOADS)), help="Which to run; all unless said."
)
@click.option("--clients", default=8, show_default=True, type=click.IntRange(1, 1024), help="Clients that ask at once.")
@click.option("--max-tokens", default=16, show_default=True, type=click.IntRange(2), help="Tokens of each answer.")
@click.option("--seed", type=int, help="Makes the same prompts again; new ones, unknown to the server, unless said.")
@click.option("--json", "as_json", is_flag=True, help="Print figures for machines.")
def bench(
    *, url: str, model: str, names: tuple[str, ...], clients: int, max_tokens: int, seed: int | None, as_json: bool
) -> None:
    """Measure a running server: time to first token, time per output token, throughput, cached share.

    The workloads: `single`, one client; `own`, a prompt of its own for each client; `shared`, a long prompt that
    all share, new and then known; `turns`, chats that send their whole history.
    """
    rng = random.Random(seed)
    workloads = [workload for name in names or WORKLOADS for workload in WORKLOADS[name](rng, clients)]
    try:
        reports = asyncio.run(_measure(url.rstrip("/"), model or _first_model(url), max_tokens, workloads))
    except (BenchError, ChatError) as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps([asdict(report) for report in reports], ensure_ascii=False, indent=2))
    else:
        screen = Console()
        Console(width=screen.width if screen.is_terminal else _PLAIN_WIDTH).print(_table(reports))


def _first_model(url: str) -> str:
    client = ChatClient(url)
    try:
        return client.model_name()
    finally:
        client.close()


async def _measure(url: str, model: str, max_tokens: int, workloads: Sequence[Workload]) -> list[Report]:
    client = BenchClient(url, model, max_tokens)
    columns = (SpinnerColumn(), TextColumn("{task.description}"))
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("")
            reports = []
            for workload in workloads:
                progress.update(task, description=f"{workload.name}: {len(workload.clients)} clients")
                reports.append(summarise(workload.name, await client.run(workload)))
            return reports
    finally:
        await client.aclose()


_COLUMNS: tuple[tuple[str, Callable[[Report], str]], ...] = (
    ("workload", lambda r: r.workload),
    ("requests", lambda r: str(r.requests)),
    ("wall s", lambda r: f"{r.wall:.2f}"),
    ("tokens/s", lambda r: f"{r.throughput:.1f}"),
    ("TTFT ms", lambda r: f"{r.ttft_median * 1e3:.0f}"),
    ("worst", lambda r: f"{r.ttft_max * 1e3:.0f}"),
    ("TPOT ms", lambda r: f"{r.tpot_median * 1e3:.1f}"),
    ("pause ms", lambda r: f"{r.longest_pause * 1e3:.0f}"),
    ("prompt tokens", lambda r: str(r.prompt_tokens)),
    ("cached", lambda r: f"{r.cached_share:.0%}"),
)


def _table(reports: Sequence[Report]) -> Table:
    table = Table(*(heading for heading, _ in _COLUMNS))
    for report in reports:
        table.add_row(*(show(report) for _, show in _COLUMNS))
    return table
