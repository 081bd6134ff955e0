"""Long contexts: what is extrapolated from measured depths, and the tables."""

import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bench.long_context import FLOOR, OFF, OURS, Measured, fit, floor, report, reports
from bench.tables import spread, write_between


def _units(depths: tuple[int, ...], server: str, slower: float) -> list[Measured]:
    """Prompts that take 10 ms and 1 µs a cell for each token; tokens that take 20 ms and 2 µs a cell."""
    return [
        Measured(
            "m", server, depth, number, slower * (0.01 * depth + 5e-7 * depth**2), [slower * (0.02 + 2e-6 * depth)]
        )
        for depth in depths
        for number in (1, 2)
    ]


def test_a_fit_finds_the_cost_of_a_token_and_of_a_cell_and_needs_two_depths() -> None:
    points = {unit.depth: unit.prompt for unit in _units((1024, 2048, 4096), OURS, 1.0)}
    assert fit(points, (1, 2)) == pytest.approx((0.01, 5e-7))
    assert fit({1024: 1.0}, (1, 2)) is None


def test_measured_depths_are_compared_by_round_and_others_are_said_to_be_extrapolated() -> None:
    units = _units((1024, 2048, 4096), OURS, 1.0) + _units((1024, 2048, 4096), FLOOR, 1.1)
    text = report(units, targets=(4096, 32768), tokens_per_character=0.5)
    assert (
        "| 4,096 | glmserve | 83.0 (83.0 to 83.0) | 1.10 (1.10 to 1.10) | 35.5 (35.5 to 35.5) | 1.10 (1.10 to 1.10) |"
        in text
    )
    assert "| 32,768 (extrapolated) | glmserve | 37.9 | 1.10 | 11.7 | 1.10 | – |" in text
    assert "| 8,000 characters | 4,000 | 48 | 6 |" in text
    assert "| 30,000 characters (extrapolated) | 15,000 | 262 | 10 |" in text


def test_each_model_has_its_own_tables() -> None:
    other = [replace(unit, model="n", prompt=2 * unit.prompt) for unit in _units((1024, 2048), OURS, 1.0)]
    first, tables, second, slower = reports([*_units((1024, 2048), OURS, 1.0), *other], (2048,), 0.5)
    assert (first, second) == ("**m**", "**n**")
    assert "| 2,048 | glmserve | 90.7 " in tables
    assert "| 2,048 | glmserve | 45.4 " in slower


def test_each_mode_of_the_server_has_rows_of_its_own_beside_the_same_floor() -> None:
    modes = _units((1024, 2048), OURS, 1.0) + _units((1024, 2048), OFF, 0.5) + _units((1024, 2048), FLOOR, 1.0)
    text = report(modes, (), 0.5)
    assert "| 2,048 | glmserve | 90.7 (90.7 to 90.7) | 1.00 (1.00 to 1.00) |" in text
    assert "| 2,048 | glmserve --flash-attn off | 181.4 (181.4 to 181.4) | 2.00 (2.00 to 2.00) |" in text


def test_a_depth_that_cannot_be_told_has_dashes() -> None:
    assert "| 8,192 (extrapolated) | glmserve | – | – | – | – | – |" in report(_units((1024,), OURS, 1.0), (8192,), 0.5)


def test_a_table_replaces_what_is_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- x -->\nold\n<!-- /x -->\nb\n", encoding="utf-8")
    write_between(page, "x", "new")
    assert page.read_text("utf-8") == "a\n<!-- x -->\nnew\n<!-- /x -->\nb\n"
    with pytest.raises(ValueError, match="no <!-- y -->"):
        write_between(page, "y", "new")


def test_a_spread_has_brackets_only_where_there_are_several_values() -> None:
    assert spread([2.0, 1.0, 4.0]) == "2.00 (1.00 to 4.00)"
    assert spread([2.0], 0) == "2"
    assert spread([]) == spread([0.0]) == "–"


_LLAMA_BENCH = """#!/bin/sh
echo $$ > "$0.pid"
echo "llama-bench: benchmark 1/1: depth run 1/2" >&2
sleep 0.5
echo "llama-bench: benchmark 1/1: generation run 1/2" >&2
sleep 0.1
echo "llama-bench: benchmark 1/1: depth run 2/2 (cached)" >&2
echo "llama-bench: benchmark 1/1: generation run 2/2" >&2
sleep 0.1
echo '[{"n_gen": 32, "samples_ns": [64000000000, 96000000000]}]'
exit ${STATUS:-0}
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "llama-bench"
    path.write_text(_LLAMA_BENCH, encoding="utf-8")
    path.chmod(0o755)
    return path


def test_llama_bench_is_stopped_in_each_answer_and_the_pause_does_not_count(program: Path) -> None:
    states = []

    def meanwhile() -> None:
        time.sleep(0.4)
        pid = program.with_suffix(".pid").read_text().strip()
        states.append(Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0])

    prompt, tokens = floor([str(program)], [meanwhile])
    assert states == ["T", "T"]
    assert prompt >= 0.1
    assert [token * 32 for token in tokens] == [pytest.approx(63.6, abs=0.3), pytest.approx(95.6, abs=0.3)]


def test_a_llama_bench_that_fails_is_no_measurement(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATUS", "1")
    with pytest.raises(subprocess.CalledProcessError):
        floor([str(program)], [])
