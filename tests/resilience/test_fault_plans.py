"""Faults on purpose: none without a plan, those of the plan with one, and none in a shipped server."""

import logging
from pathlib import Path

import pytest

from glmserve.config.loader import SettingsError, load_settings
from glmserve.engine.config import ComputeMode
from glmserve.engine.errors import ModelLoadError
from glmserve.engine.model_runner import DecodeError
from tests.conftest import running_server
from tests.support.faults import VARIABLE, fail, parse, read_plan

MODE = ComputeMode.STANDARD


def test_without_a_plan_nothing_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert read_plan(MODE) == ()


def test_a_plan_is_announced(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv(VARIABLE, "decode:3=abort")
    assert len(read_plan(MODE)) == 1
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "fails on purpose" in caplog.text


@pytest.mark.parametrize(
    "text", ["decode", "nowhere=abort", "decode:x=abort", "decode=drop", "decode:1=abort;load=oom"]
)
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(ModelLoadError, match=VARIABLE):
        parse(text)


def test_a_plan_for_once_is_taken_by_the_first_process_that_finds_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "plan").write_text("load=oom\n")
    monkeypatch.setenv(VARIABLE, f"once {tmp_path / 'plan'}")
    first, second = read_plan(MODE), read_plan(MODE)
    with pytest.raises(MemoryError):
        fail(first, "load")
    assert second == ()


def test_a_fault_of_one_compute_mode_is_none_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "self_test^no_extra_buffers=oom,load=bug")
    assert [fault.place for fault in read_plan(ComputeMode.NO_EXTRA_BUFFERS)] == ["self_test", "load"]
    assert [fault.place for fault in read_plan(ComputeMode.STANDARD)] == ["load"]


def test_when_a_fault_is_due() -> None:
    once, on, token, always = parse("decode:2=1,decode:2+=1,decode@17=1,decode=1")
    assert [once.is_due(()) for _ in range(4)] == [False, True, False, False]
    assert [on.is_due(()) for _ in range(4)] == [False, True, True, True]
    assert [token.is_due(tokens) for tokens in ((1, 2), (16, 17), (17,))] == [False, True, True]
    assert [always.is_due(()) for _ in range(2)] == [True, True]


@pytest.mark.parametrize(("code", "fatal"), [("1", False), ("-1", False), ("-2", True), ("-3", True)])
def test_a_number_is_an_answer_of_llama_decode(code: str, fatal: bool) -> None:
    with pytest.raises(DecodeError, match=code) as caught:
        fail(parse(f"load={code}"), "load")
    assert caught.value.fatal is fatal


def test_a_shipped_server_takes_no_plan(tmp_path: Path) -> None:
    environ = {"GLMSERVE_CACHE_DIR": str(tmp_path), VARIABLE: "load=oom"}
    load_settings({}, environ)
    with pytest.raises(SettingsError, match="GLMSERVE_FAULTS is not a setting"):
        load_settings({}, {**environ, "GLMSERVE_FAULTS": "load=oom"})


def test_a_shipped_server_serves_whatever_a_plan_says(tiny_gguf: Path, tmp_path: Path) -> None:
    with running_server(str(tiny_gguf), log=tmp_path / "log", environment={VARIABLE: "load=oom"}):
        pass
    assert "on purpose" not in (tmp_path / "log").read_text("utf-8")
