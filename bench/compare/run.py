"""Runs the suites: each server in turn, round after round."""

import json
import random
import subprocess
import time
from collections.abc import Iterator, Sequence

from bench.compare import results
from bench.compare.build import Built
from bench.compare.results import Unit
from bench.compare.servers import KINDS, MODEL_NAME, Kind, Load, Running, running
from bench.compare.suites import Suite
from server.commands.bench import measure, run_fast
from server.commands.bench_client import BenchClient
from server.commands.bench_report import Report
from server.commands.bench_workloads import WORKLOADS, Client, Workload

FLOOR = "llama-bench"
_FLOOR_DEPTH = 160
"""Tokens in front of what llama-bench measures: about those of the workload ``single``."""


def units_of(suites: Sequence[Suite], rounds: int, servers: Sequence[str]) -> list[tuple[Suite, int, str]]:
    """Return what there is to run, in order: A B C A B C rather than A A B B C C."""
    return [(suite, number, name) for suite in suites for number in range(1, rounds + 1) for name in servers]


def run_unit(suite: Suite, number: int, name: str, built: Built, load: Load) -> Unit:
    """Measure one server once. Raises BenchError, RuntimeError, or CalledProcessError."""
    if name == FLOOR:
        return Unit(suite.name, name, number, rates=_floor(built, load))
    kind = next(kind for kind in KINDS if kind.name == name)
    # Each round asks what no server has seen, and in a round all servers are asked the same.
    rng = random.Random(number)
    workloads = [each for key in suite.workloads for each in WORKLOADS[key](rng, suite.size)]
    with running(kind, built, load) as server:
        run_fast(measure(_client(server, kind), [_warm_up()]))
        reports, processor = {}, {}
        for workload in workloads:
            reports[workload.name], processor[workload.name] = _measured(server, kind, workload)
        memory = server.memory()
    return Unit(
        suite.name,
        name,
        number,
        reports,
        processor,
        {
            "resident": sum(each.resident for each in memory),
            "proportional": sum(each.proportional for each in memory),
            "anonymous": sum(each.anonymous for each in memory),
        },
    )


def _measured(server: Running, kind: Kind, workload: Workload) -> tuple[Report, dict[str, float]]:
    before = server.processor_seconds()
    (report,) = run_fast(measure(_client(server, kind), [workload]))
    after = server.processor_seconds()
    return report, {role: seconds - before.get(role, 0.0) for role, seconds in after.items()}


def _client(server: Running, kind: Kind) -> BenchClient:
    return BenchClient(server.url, MODEL_NAME, extra=kind.extra)


def _warm_up() -> Workload:
    return Workload("warming up", (Client(("你好",), 4),))


def _floor(built: Built, load: Load) -> dict[str, float]:
    """What llama.cpp does without any server: tokens a second, of a prompt and of an answer."""
    sizes = ("-p", "512", "-n", "64", "-d", str(_FLOOR_DEPTH), "-r", "1", "-t", str(load.threads), "-o", "json")
    done = subprocess.run(
        [str(built.programs / "llama-bench"), "-m", str(load.model), *sizes], check=True, capture_output=True
    )
    tests = json.loads(done.stdout)
    return {"answer" if test["n_gen"] else "prompt": float(test["avg_ts"]) for test in tests}


def run_all(
    suites: Sequence[tuple[Suite, Load]], rounds: int, servers: Sequence[str], built: Built, limit: float
) -> Iterator[str]:
    """Run what there are no results of, beginning nothing after ``limit`` seconds; yield a line for each unit."""
    store = built.work / "results.jsonl"
    known = {(unit.suite, unit.round, unit.server) for unit in results.load(store)}
    loads = {suite.name: load for suite, load in suites}
    left = [
        unit for unit in units_of([s for s, _ in suites], rounds, servers) if (unit[0].name, *unit[1:]) not in known
    ]
    started = time.monotonic()
    for count, (suite, number, name) in enumerate(left):
        began = time.monotonic()
        if began - started > limit:
            yield f"{len(left) - count} of {len(left)} are left: run the same command again"
            return
        unit = run_unit(suite, number, name, built, loads[suite.name])
        results.append(store, unit)
        yield f"{suite.name}, round {number}, {name}: {time.monotonic() - began:.0f} s"
