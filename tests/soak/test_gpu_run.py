"""The whole run on a GPU, as a dry run on the CPU: every step that needs no other program works."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OF_LLAMA_SERVER = {"floor", "sampling"}


@pytest.mark.timeout(3600)
def test_each_step_of_the_gpu_run_works_without_a_gpu(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.gpu", "--work", str(tmp_path), "--device", "cpu", "--stretch", "6"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    outcomes = {each["name"]: each for each in json.loads((tmp_path / "outcomes.json").read_text("utf-8"))}
    not_done = {name: each["reason"] for name, each in outcomes.items() if each["state"] != "done"}
    assert set(not_done) == OF_LLAMA_SERVER, not_done
    assert all("(--programs)" in reason for reason in not_done.values())
    assert "not done: floor, sampling" in done.stderr
    page = (tmp_path / "gpu.md").read_text("utf-8")
    print(page)
    assert "ANOTHER ANSWER" not in page
    assert "| answer across the death | 400 of 400 tokens" in page
