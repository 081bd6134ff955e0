"""Measures this server, llama-server and llama-cpp-python's example server in turn, and writes the page.

    python -m bench.compare --work FOLDER                    the whole table: about 25 minutes on two cores
    python -m bench.compare --work FOLDER --quick            a smoke run on the embedded model

The first run builds the others from the source of llama-cpp-python, some ten minutes more, and makes the models.
Results gather in FOLDER/results.jsonl: a run that was cut short, by ``--limit`` or otherwise, goes on where it was.
Exit code 75 means that ``--limit`` left work to do. ``--quick`` has results of its own and begins anew each time.
"""

import argparse
import os
import subprocess
from dataclasses import replace
from pathlib import Path

from bench.compare import page, results, run
from bench.compare.build import build, remembered_cmake_args
from bench.compare.floors import FLOOR
from bench.compare.servers import BASELINE, KINDS
from bench.compare.suites import SUITES, prepare
from glmserve.cli.bench.client import BenchError

_LEFT = 75
"""Exit code where ``--limit`` left something to do: EX_TEMPFAIL of sysexits.h."""

_SERVERS = (*(kind.name for kind in KINDS if kind is not BASELINE), FLOOR)


def main() -> None:
    """Run the command line."""
    options = _options()
    names = ["quick"] if options.quick else options.suite
    rounds = 1 if options.quick else options.rounds
    built = replace(build(options.work, options.source, options.cmake_args), baseline=options.baseline)
    if options.quick:
        built = replace(built, results=options.work / "quick.jsonl")
        built.results.unlink(missing_ok=True)
    loads = {name: prepare(SUITES[name], options.work, options.threads) for name in names}
    servers = [*options.server, *([BASELINE.name] if options.baseline else [])]
    tasks = run.tasks_of([SUITES[name] for name in names], rounds, servers)
    try:
        for line in run.run_all(run.outstanding(tasks, built), loads, built, options.limit):
            print(line, flush=True)
    except (BenchError, RuntimeError, subprocess.CalledProcessError) as error:
        raise SystemExit(str(error)) from None
    if options.baseline:
        print("\n".join(page.beside_baseline(results.load(built.results))))
    if options.page:
        page.write(options.page, results.load(built.results), "python -m bench.compare --work FOLDER", options.mark)
    if left := len(run.outstanding(tasks, built)):
        print(f"{left} of {len(tasks)} are left: run the same command again")
        raise SystemExit(_LEFT)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for programs, models and results")
    parser.add_argument("--source", type=Path, help="unpacked sdist of llama-cpp-python, unless downloaded")
    parser.add_argument("--suite", nargs="+", choices=SUITES, default=["0.9b", "tiny"])
    parser.add_argument("--server", nargs="+", choices=_SERVERS, default=_SERVERS)
    parser.add_argument("--baseline", type=Path, metavar="PROGRAM", help="glmserve of another installation, beside it")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--limit", type=float, default=float("inf"), help="seconds after which nothing is begun")
    parser.add_argument("--quick", action="store_true", help="one round of everything on the embedded model")
    parser.add_argument("--page", type=Path, help="page to write the results into, such as docs/benchmarks.md")
    parser.add_argument("--mark", default=page.MARK, help="the place in the page")
    parser.add_argument(
        "--cmake-args",
        type=lambda text: tuple(text.split()),
        default=remembered_cmake_args(),
        help="the build flags of llama.cpp beyond the usual; as the installed wheel unless said",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
