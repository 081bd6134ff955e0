"""The comparison with other servers: what is run in which order, and what becomes of the figures."""

import os
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.compare import page, results
from bench.compare.floors import FLOOR, floor_seconds
from bench.compare.plot import Bar, draw
from bench.compare.results import Spread, Unit, ratios
from bench.compare.run import tasks_of
from bench.compare.suites import SUITES
from bench.memory import family, measure
from glmserve.cli.bench.command import BenchReport


def _unit(server: str, number: int, wall: float) -> Unit:
    report = BenchReport("own prompts", 8, wall, 8 / wall, 0.1, 0.2, 0.01, 0.01, 0.02, 100, 0.5)
    memory = {"resident": 3 << 30, "proportional": 2 << 30, "anonymous": 1 << 30}
    return Unit("0.9b", "own", server, number, {"own prompts": report}, {"all": 0.5}, memory)


def test_servers_take_turns_and_are_never_run_twice_in_a_row() -> None:
    order = [task.server for task in tasks_of([SUITES["tiny"]], 3, ["a", "b"])]
    assert order == ["a", "b", "a", "b", "a", "b"]


def test_what_needs_no_server_is_measured_once_a_round() -> None:
    tasks = tasks_of([SUITES["0.9b"]], 2, [FLOOR])
    assert [(task.workload, task.round) for task in tasks] == [("single", 1), ("single", 2)]


def test_ratios_are_of_the_same_round_and_above_one_where_ours_is_better() -> None:
    assert ratios({1: 1.0, 2: 2.0, 3: 4.0}, {1: 5.0, 2: 4.0, 3: 4.0}, smaller_is_better=True) == Spread(2.0, 1.0, 5.0)
    assert ratios({1: 30.0}, {1: 10.0, 2: 1.0}, smaller_is_better=False) == Spread(3.0, 3.0, 3.0)
    assert ratios({1: 1.0}, {2: 1.0}, smaller_is_better=True) is None


def test_results_come_back_as_they_were_written(tmp_path: Path) -> None:
    units = [_unit("glmserve", 1, 2.0), _unit("llama-server", 1, 3.0)]
    for unit in units:
        results.append(tmp_path / "results.jsonl", unit)
    assert results.load(tmp_path / "results.jsonl") == units


def test_the_page_keeps_its_words_and_gets_new_figures(tmp_path: Path) -> None:
    target = tmp_path / "benchmarks.md"
    target.write_text(f"before\n<!-- {page.MARK} -->\nold\n<!-- /{page.MARK} -->\nafter\n", encoding="utf-8")
    page.write(target, [_unit("glmserve", 1, 2.0), _unit("llama-server", 1, 3.0)], "the command")
    text = target.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| a prompt of its own for each client | 2 s | 3 s | – | 1.5 (1.5–1.5) | 1.25 | – |" in text
    ElementTree.fromstring((tmp_path / "benchmarks.svg").read_text(encoding="utf-8"))


def test_a_floor_is_the_time_of_the_tokens_that_are_left_to_compute(tmp_path: Path) -> None:
    """8 requests in 2 s with 8/2 tokens a second are 8 tokens, all of which prompts give; 50 of 100 are not cached."""
    target = tmp_path / "benchmarks.md"
    target.write_text(f"<!-- {page.MARK} -->\n<!-- /{page.MARK} -->\n", encoding="utf-8")
    rates = Unit("0.9b", "single", FLOOR, 1, rates={"prompt": 50.0, "answer": 9.0, "8 answers": 20.0})
    page.write(target, [_unit("glmserve", 1, 2.0), _unit("llama-server", 1, 3.0), rates], "the command")
    row = "| a prompt of its own for each client | 1.0 s | 0.50 (0.50–0.50) | 3.00 (3.00–3.00) |"
    assert row in target.read_text(encoding="utf-8")


def test_answers_that_are_generated_together_take_the_time_of_their_batch() -> None:
    report = BenchReport("turns", 4, 10.0, 6.4, 0.1, 0.2, 0.01, 0.01, 0.02, 1000, 0.75)
    assert floor_seconds(report, {"prompt": 50.0, "4 answers": 12.0}, 4) == pytest.approx(250 / 50 + (64 - 4) / 12)


def test_an_older_installation_is_compared_figure_by_figure() -> None:
    units = [_unit("glmserve", 1, 2.0), _unit("baseline", 1, 3.0), _unit("glmserve", 2, 4.0), _unit("baseline", 2, 2.0)]
    assert list(page.beside_baseline(units))[-1] == (
        "| 0.9B, q4_k_m | a prompt of its own for each client | 1 (0.5–1.5) |"
    )


def test_a_page_without_a_place_for_figures_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "page.md"
    target.write_text("words", encoding="utf-8")
    with pytest.raises(ValueError, match="has no <!-- measured -->"):
        page.write(target, [], "the command")
    assert target.read_text(encoding="utf-8") == "words"


def test_a_second_place_in_the_page_has_a_plot_of_its_own(tmp_path: Path) -> None:
    target = tmp_path / "benchmarks.md"
    target.write_text(
        f"<!-- {page.MARK} -->\nold\n<!-- /{page.MARK} -->\n<!-- new -->\n<!-- /new -->\n", encoding="utf-8"
    )
    page.write(target, [_unit("glmserve", 1, 2.0)], "the command", "new")
    text = target.read_text(encoding="utf-8")
    assert "old" in text
    assert "(benchmarks-new.svg)" in text
    assert (tmp_path / "benchmarks-new.svg").exists()


def test_a_plot_is_xml_with_every_title() -> None:
    bars = [Bar("a < b", "one", Spread(2.0, 1.5, 30.0)), Bar("c", "two", Spread(0.1, 0.05, 0.2))]
    text = "".join(ElementTree.fromstring(draw(bars)).itertext())
    assert "a < b" in text
    assert "against two" in text


def test_memory_of_this_process_is_measured() -> None:
    assert next(family(os.getpid())) == os.getpid()
    memory = measure(os.getpid())
    assert 0 < memory.anonymous <= memory.proportional <= memory.resident
