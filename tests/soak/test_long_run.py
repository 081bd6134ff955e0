"""Fifty thousand short requests of all kinds, of which an eighth are left at random moments, to three engines.

What each request is was drawn from a seed. Those whose greedy answer is sure are compared with what they got alone.
"""

import time
from pathlib import Path

import pytest

from tests.support.load.long_run import LongRun, Report
from tests.support.load.server import serving
from tests.support.load.vitals import growth

CALLERS, STAGES, CASES = 24, 20, 12

GROWTH = 4 * 2**20
"""Bytes that the median of the last quarter of the stages may be above that of the quarter before. In between are
12,500 requests, so this is 335 bytes for each: less than the least that is kept of a request while it runs."""

ENGINE_GROWTH = 16 * 2**20
"""The same of an engine, which goes up and down by so much: it copies prefixes of up to 5 MB out of its cells and into
them, and the C library gives their memory back late."""


@pytest.mark.anyio
async def test_long_run(tiny_gguf: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    option = request.config.getoption
    seed, size, until = option("--seed"), option("--requests") // STAGES, time.monotonic() + 60 * option("--minutes")
    with serving(tiny_gguf, tmp_path, everything=True) as server:
        run = LongRun(server, seed, CALLERS)
        await run.prepare(CASES)
        for _ in range(STAGES):
            await run.stage(size)
            print(run.progress(), flush=True)
            if time.monotonic() > until:
                break
        await run.check()
    print(run.callers.tally, {name: value for name, value in run.report.figures.items() if name.endswith("_total")})
    print(f"{run.report.checks} checks of the books")
    check_flat(run.report)


def check_flat(report: Report) -> None:
    """Raise AssertionError where a process holds more and more of something."""
    # All but the engine that comes and goes.
    for name in set.intersection(*map(set, report.vitals)):
        vitals = [at[name] for at in report.vitals]
        most = GROWTH if name.startswith("server") else ENGINE_GROWTH
        assert growth([at.memory for at in vitals]) <= most, f"{name}: {[at.memory for at in vitals]}"
        assert growth([at.files for at in vitals]) <= 0, f"{name}: {[at.files for at in vitals]}"
        # A pool of six has one more now and then, until it has all.
        assert growth([at.threads for at in vitals]) <= 1, f"{name}: {[at.threads for at in vitals]}"
