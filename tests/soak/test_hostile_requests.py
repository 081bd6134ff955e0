"""Requests that a fuzzer makes up: SOAK_RUNS says how many (100,000 unless set)."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

RUNS = int(os.environ.get("SOAK_RUNS", "100000"))


def test_no_body_makes_the_server_fail(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="pip install .[fuzz]; there are wheels for Linux alone")
    from tests.soak.fuzz_requests import write_seeds

    write_seeds(tmp_path)
    options = [f"-runs={RUNS}", "-seed=1", "-max_len=4096", "-timeout=30", "-rss_limit_mb=2000", str(tmp_path)]
    command = [sys.executable, "-m", "tests.soak.fuzz_requests", *options]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    print(f"\n{RUNS} bodies: {re.findall('DONE.*', done.stderr)}")
    assert done.returncode == 0, done.stderr[-5000:]
    assert " cov: " in done.stderr, "nothing of the server is instrumented, so that the bodies are random"
