"""The arithmetic of docs/scaling.md: from measured rates to engines."""

from pathlib import Path

import pytest

from bench.capacity import BENCHMARKS, TASKS, Speed, TaskTokens, measured, speeds, tables, units
from glmserve.chat.tasks.loader import load_tasks

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize(("rate", "engines"), [(0.35, 1), (0.36, 2), (3.5, 10), (350, 1000)])
def test_a_request_takes_its_new_tokens_and_its_answer(rate: float, engines: int) -> None:
    task = TaskTokens("one", prompt=120, beginning=100, answer=10)
    speed = Speed("", "", prompt=20, answers=10)  # 20/20 + 10/10 = 2 s of an engine that is busy for 0.7 of the time
    assert speed.seconds(task.new, task.answer) == 2
    assert units(rate, speed, [task]) == engines


def test_without_a_cache_the_beginning_is_computed_too() -> None:
    task = TaskTokens("one", prompt=120, beginning=100, answer=10)
    assert units(7, Speed("", "", 20, 10), [task], cached=False) == 70
    assert TaskTokens("short", prompt=120, beginning=15, answer=1).new == 120


def test_tasks_share_the_requests_alike() -> None:
    two = [TaskTokens("a", 20, 0, 0), TaskTokens("b", 0, 0, 30)]
    assert units(7, Speed("", "", 20, 10), two) == 20  # (1 s + 3 s) / 2


def test_the_rate_of_answers_is_what_prompts_leave_of_the_time() -> None:
    page = (
        "### Other\n\nllama-bench, without a server: 1 tokens/s of a prompt and\n"
        "### Model\n\n| a prompt of its own for each client | 120 s | 130 s |\n\n"
        "llama-bench, without a server: 11.2 tokens/s of a prompt and\n### Next\n"
    )
    speed = measured("Model", "", "", page)
    assert (speed.name, speed.chinese, speed.prompt) == ("", "", 11.2)
    assert speed.answers == pytest.approx(256 / 20)


def test_the_tasks_are_the_built_in_ones() -> None:
    assert {task.task for task in TASKS} == set(load_tasks(None))
    assert all(task.beginning < task.prompt for task in TASKS)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_has_the_tables_of_the_measured_rates(language: str) -> None:
    page = (DOCS / ("" if language == "en" else "zh") / "scaling.md").read_text("utf-8")
    assert [table in page for table in tables(language, BENCHMARKS.read_text("utf-8")).split("\n\n")] == [True, True]


def test_every_rate_is_above_zero() -> None:
    assert all(speed.prompt > speed.answers > 0 for speed in speeds(BENCHMARKS.read_text("utf-8")))
