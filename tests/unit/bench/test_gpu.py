"""The run on a GPU: which steps are due, how long each may take, and the page."""

import json
from dataclasses import asdict

from bench.gpu.page import write_page
from bench.gpu.plan import PLAN, Outcome, Row, State, due, from_json, limit
from bench.gpu.run_step import STEPS

DONE = {step.name: Outcome(step.name, State.DONE, 1.0, (Row("what", "a | b\nc"),)) for step in PLAN}


def test_each_step_has_its_function_and_all_fit_into_eight_minutes() -> None:
    assert set(STEPS) == {step.name for step in PLAN}
    assert sum(step.seconds for step in PLAN) <= 480


def test_a_run_goes_on_where_it_was_and_tries_what_failed_once_more() -> None:
    late = DONE | {"logits": Outcome("logits", State.LATE, 45.0, reason="…")}
    assert [step.name for step in due({})] == [step.name for step in PLAN]
    assert [step.name for step in due(late)] == ["logits"]
    assert [step.name for step in due(late, again=["streams"])] == ["logits", "streams"]
    assert [step.name for step in due({name: DONE[name] for name in DONE if name != "floor"})] == ["floor"]


def test_no_step_takes_more_than_is_left_and_none_begins_in_the_last_seconds() -> None:
    build, machine = PLAN[:2]
    assert limit(machine, 400) == machine.seconds
    assert limit(machine, 400, stretch=3) == 3 * machine.seconds
    assert limit(machine, 10) == 10
    assert limit(machine, 4) == 0
    assert limit(build, 400, build_seconds=300) == 300
    assert limit(machine, 400, build_seconds=300) == machine.seconds


def test_the_page_has_each_step_and_what_it_found_or_why_not() -> None:
    failed = Outcome("fit", State.FAILED, 3.2, (Row("weights", "10 MiB"),), "RuntimeError: no GPU")
    page = write_page({"machine": DONE["machine"], "fit": failed}, "cuda")
    assert "| Machine | done | 1 |" in page
    assert "| Layers that fit, and memory | failed | 3 |" in page
    assert "| 1, 8 and 64 streams | not run | – |" in page
    assert "| what | a \\| b c |" in page
    assert "RuntimeError: no GPU" in page
    assert "a GPU" not in write_page(DONE, "cpu").partition("\n")[0]


def test_an_outcome_comes_back_as_it_was_written() -> None:
    for outcome in (DONE["fit"], Outcome("fit", State.LATE, 2.0, (), "why")):
        assert from_json(json.loads(json.dumps(asdict(outcome)))) == outcome
