"""Which compute mode comes after one that does not work, and the memory of the one that did."""

import signal
from pathlib import Path

import pytest

from glmserve.engine.client import machine_records
from glmserve.engine.client.compute_modes import ComputeFallback, ModeMemory, is_crash
from glmserve.engine.config import ComputeMode

STANDARD, SAFER, SAFEST = ComputeMode


def test_each_crash_leads_to_the_next_safer_mode_and_the_last_one_to_none() -> None:
    modes = ComputeFallback()
    assert modes.mode is STANDARD
    assert modes.crashed("was ended by SIGSEGV")
    assert modes.mode is SAFER
    assert modes.failed("computed wrong")
    assert modes.mode is SAFEST
    assert not modes.crashed("was ended by SIGSEGV")
    assert modes.mode is STANDARD  # another start tries them again


def test_what_failed_before_a_mode_that_works_is_told_once() -> None:
    modes = ComputeFallback()
    modes.crashed("was ended by SIGSEGV")
    modes.started()
    modes.self_testing()
    modes.crashed("was ended by SIGILL")
    assert [str(failure) for failure in modes.ready()] == [
        "llama.cpp was ended by SIGSEGV while it loaded the model (as built)",
        "llama.cpp was ended by SIGILL while it tested itself (without repacked weights and AMX)",
    ]
    assert modes.ready() == ()


def test_a_restart_begins_with_the_mode_that_worked() -> None:
    modes = ComputeFallback()
    modes.crashed("was ended by SIGSEGV")
    modes.ready()
    assert modes.mode is SAFER
    assert modes.crashed("was ended by SIGSEGV")
    assert not modes.crashed("was ended by SIGSEGV")
    assert modes.mode is SAFER


@pytest.mark.parametrize(
    ("ends", "says"),
    [
        (["SIGILL", "SIGILL", "SIGILL"], "was made for another CPU"),
        (["SIGSEGV", "SIGILL", "SIGILL"], "the model file is damaged, or this build"),
    ],
    ids=["always SIGILL", "mixed"],
)
def test_giving_up_names_all_that_was_tried_and_a_remedy(ends: list[str], says: str) -> None:
    modes = ComputeFallback()
    for end in ends:
        modes.crashed(f"was ended by {end}")
    reason = modes.give_up()
    assert says in reason
    assert all(mode.in_words in reason for mode in ComputeMode)
    assert modes.failures == ()


@pytest.mark.parametrize(
    ("exitcode", "crash"),
    [
        (-signal.SIGSEGV, True), (-signal.SIGILL, True), (-signal.SIGABRT, True), (-signal.SIGFPE, True),
        (-signal.SIGKILL, False), (-signal.SIGTERM, False), (0, False), (1, False), (11, False), (None, False),
    ],
)  # fmt: skip
def test_which_ends_are_crashes(exitcode: int | None, crash: bool) -> None:
    assert is_crash(exitcode) is crash


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "some.gguf").write_bytes(b"one")
    return tmp_path / "some.gguf"


@pytest.fixture
def memory(tmp_path: Path, model: Path) -> ModeMemory:
    memory = ModeMemory(tmp_path / "modes", model)
    assert memory.load() is None
    memory.save(SAFER, "it died")
    return memory


def test_what_is_saved_is_loaded(memory: ModeMemory) -> None:
    remembered = memory.load()
    assert remembered is not None
    assert remembered.file is not None
    assert (remembered.mode, remembered.reason) == (SAFER, "it died")
    remembered.file.unlink()
    assert memory.load() is None


def test_another_file_under_the_name_is_not_known(memory: ModeMemory, model: Path) -> None:
    model.write_bytes(b"two")
    assert memory.load() is None


@pytest.mark.parametrize("what", ["build_fingerprint", "cpu_fingerprint"])
def test_another_build_and_another_cpu_are_not_known(
    memory: ModeMemory, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(machine_records, what, lambda: "another one")
    assert memory.load() is None


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"mode": "fast", "reason": ""}', b"\xff", b"7"])
def test_a_damaged_file_is_as_none(memory: ModeMemory, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    remembered = memory.load()
    assert remembered is not None
    assert remembered.file is not None
    remembered.file.write_bytes(content)
    assert memory.load() is None
    assert "some.gguf cannot be read" in caplog.text


def test_a_folder_that_cannot_be_made_costs_a_warning(
    tmp_path: Path, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    assert ModeMemory(tmp_path / "file" / "modes", model).save(SAFER, "it died") is None
    assert "could not be saved" in caplog.text


def test_without_a_folder_nothing_is_kept(model: Path) -> None:
    memory = ModeMemory(None, model)
    assert memory.save(SAFER, "it died") is None
    assert memory.load() is None
