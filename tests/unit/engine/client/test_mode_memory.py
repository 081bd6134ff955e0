"""The compute mode that works is known at the next start, for the same file, build and CPU."""

from pathlib import Path

import pytest

from glmserve.engine.client.compute_modes import memory as mode_memory
from glmserve.engine.client.compute_modes.memory import ModeMemory, build_identity, cpu_identity
from glmserve.engine.compute_mode import ComputeMode

SAFER = ComputeMode.NO_EXTRA_BUFFERS


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
    assert (remembered.mode, remembered.reason) == (SAFER, "it died")
    remembered.file.unlink()
    assert memory.load() is None


def test_another_file_under_the_name_is_not_known(memory: ModeMemory, model: Path) -> None:
    model.write_bytes(b"two")
    assert memory.load() is None


@pytest.mark.parametrize("what", ["build_identity", "cpu_identity"])
def test_another_build_and_another_cpu_are_not_known(
    memory: ModeMemory, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(mode_memory, what, lambda: "another one")
    assert memory.load() is None


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"mode": "fast", "reason": ""}', b"\xff", b"7"])
def test_a_damaged_file_is_as_none(memory: ModeMemory, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    remembered = memory.load()
    assert remembered is not None
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


def test_the_build_and_the_cpu_are_told_apart_by_what_matters() -> None:
    assert "libggml-cpu.so" in build_identity()
    assert cpu_identity()
