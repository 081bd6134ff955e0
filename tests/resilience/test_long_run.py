"""The quick half of ``tests/soak/test_long_run.py``: some hundred requests of all kinds, an eighth of them left."""

from pathlib import Path

import pytest

from tests.support.load.long_run import LongRun
from tests.support.load.server import serving

REQUESTS, CALLERS, SEED = 240, 16, 3


@pytest.mark.anyio
async def test_nothing_is_lost_and_nothing_stays_behind(tiny_gguf: Path, tmp_path: Path) -> None:
    with serving(tiny_gguf, tmp_path, everything=False) as server:
        run = LongRun(server, SEED, CALLERS)
        await run.prepare(1)
        for _ in range(2):
            await run.stage(REQUESTS // 2)
        await run.check()
    assert run.report.checks >= 2, "the engine has not compared its books with llama.cpp's"
    first, last = run.report.vitals
    for name, at in last.items():  # a connection of the last callers may still be open
        assert at.files <= first[name].files + 2, (first, last)
