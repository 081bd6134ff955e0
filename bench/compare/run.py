"""Runs the suites: each server in turn, round after round."""

import json
import random
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.compare import results
from bench.compare.build import Built
from bench.compare.floors import FLOOR, STREAMS, rate_of
from bench.compare.results import Unit
from bench.compare.servers import KINDS, MODEL_NAME, Load, running
from bench.compare.suites import Suite
from glmserve.cli.bench.client import BenchClient
from glmserve.cli.bench.command import measure, run_fast
from glmserve.cli.bench.workloads import WORKLOADS, Client, Workload

FLOOR_WORKLOAD = "single"
"""In whose turn llama-bench runs."""
_FLOOR_DEPTH = 160
"""Tokens in front of what llama-bench measures: about as many as in ``FLOOR_WORKLOAD``."""


@dataclass(frozen=True, slots=True)
class Task:
    """One unit of measurement."""

    suite: Suite
    workload: str
    server: str
    round: int

    @property
    def key(self) -> tuple[str, str, str, int]:
        """Its key among all tasks."""
        return self.suite.name, self.workload, self.server, self.round


def tasks_of(suites: Sequence[Suite], rounds: int, servers: Sequence[str]) -> list[Task]:
    """Return the tasks in order: all servers run a workload one after another, and then again."""
    return [
        Task(suite, workload, server, number)
        for suite in suites
        for number in range(1, rounds + 1)
        for workload in suite.workloads
        for server in servers
        if server != FLOOR or workload == FLOOR_WORKLOAD
    ]


def run_task(task: Task, built: Built, load: Load) -> Unit:
    """Measure one server once. Raises BenchError, RuntimeError, or CalledProcessError."""
    if task.server == FLOOR:
        return Unit(*task.key, rates=_floor(built, load))
    kind = next(kind for kind in KINDS if kind.name == task.server)
    # Each round asks what no server has seen, and in a round all servers are asked the same.
    rng = random.Random(f"{task.workload} {task.round}")
    workloads = WORKLOADS[task.workload](rng, task.suite.size)
    with running(kind, built, load) as server:
        client = BenchClient(server.url, MODEL_NAME, extra=kind.extra)
        run_fast(measure(client, [_warm_up()]))
        before = server.processor_seconds()
        reports = run_fast(measure(client, workloads))
        after = server.processor_seconds()
        memory = server.memory()
    return Unit(
        *task.key,
        reports={report.workload: report for report in reports},
        processor={role: seconds - before.get(role, 0.0) for role, seconds in after.items()},
        memory={
            "resident": sum(each.resident for each in memory),
            "proportional": sum(each.proportional for each in memory),
            "anonymous": sum(each.anonymous for each in memory),
        },
    )


def _warm_up() -> Workload:
    return Workload("warming up", (Client(("你好",), 4),))


def _floor(built: Built, load: Load) -> dict[str, float]:
    """Rates of llama.cpp without a server: tokens a second, of a prompt and of an answer."""
    sizes = ("-p", "512", "-n", "64", "-d", str(_FLOOR_DEPTH), "-r", "3", "-t", str(load.threads), "-o", "json")
    done = subprocess.run(
        [str(built.programs / "llama-bench"), "-m", str(load.model), *sizes], check=True, capture_output=True
    )
    tests = json.loads(done.stdout)
    one = {"answer" if test["n_gen"] else "prompt": float(test["avg_ts"]) for test in tests}
    return one | _answers(built, load)


def _answers(built: Built, load: Load) -> dict[str, float]:
    """Rates of several answers at once."""
    sizes = ("-npp", str(_FLOOR_DEPTH), "-ntg", "32", "-npl", ",".join(map(str, STREAMS)), "-t", str(load.threads))
    cells = str(max(STREAMS) * 2 * _FLOOR_DEPTH)
    done = subprocess.run(
        [str(built.programs / "llama-batched-bench"), "-m", str(load.model), "-c", cells, "-b", "512", *sizes,
         "--output-format", "jsonl"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    tests = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {rate_of(test["pl"]): float(test["speed_tg"]) for test in tests}


def outstanding(tasks: Sequence[Task], built: Built) -> list[Task]:
    """Return the ``tasks`` without results."""
    known = {(unit.suite, unit.workload, unit.server, unit.round) for unit in results.load(built.results)}
    return [task for task in tasks if task.key not in known]


def run_all(tasks: Sequence[Task], loads: Mapping[str, Load], built: Built, limit: float) -> Iterator[str]:
    """Run ``tasks``, beginning none after ``limit`` seconds; yield a line for each.

    Args:
        tasks: what is run, in this order.
        loads: by suite.
        built: the programs; results are added to its file of results.
        limit: in seconds.
    """
    started = time.monotonic()
    for task in tasks:
        began = time.monotonic()
        if began - started > limit:
            return
        results.append(built.results, run_task(task, built, loads[task.suite.name]))
        yield f"{task.suite.name}, round {task.round}, {task.workload}, {task.server}: {time.monotonic() - began:.0f} s"
