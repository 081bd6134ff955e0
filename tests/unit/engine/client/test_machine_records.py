"""Records of a model on this machine: which file, build and CPU passed the self-test."""

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from glmserve.engine.client import machine_records
from glmserve.engine.client.compute_modes import EngineModes
from glmserve.engine.client.machine_records import SelfTestRecord, build_fingerprint, cpu_fingerprint
from glmserve.engine.config import ComputeMode, Device, EngineConfig, FlashAttention, KvType
from glmserve.engine.messages import EngineInfo
from tests.support.changes import EngineChanges

INFO = EngineInfo(context_length=8, cache_cells=8, parallel=1, vocab_size=9, device="CPU", load_seconds=1.0)


def becomes_ready(modes: EngineModes) -> None:
    modes.ready(INFO)
    for thread in threading.enumerate():
        if thread.name == "mode-writer":
            thread.join()


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EngineConfig:
    monkeypatch.setattr(machine_records, "LARGE_BYTES", 4)
    (tmp_path / "some.gguf").write_bytes(b"large")
    return EngineConfig(tmp_path / "some.gguf", device=Device.CPU, mode_dir=tmp_path / "modes")


@pytest.fixture
def passed(config: EngineConfig) -> EngineConfig:
    assert not SelfTestRecord.of(config).passed
    SelfTestRecord.of(config).save()
    assert SelfTestRecord.of(config).passed
    return config


@pytest.mark.parametrize(
    "other",
    [
        {"compute_mode": ComputeMode.PLAIN_KERNELS},
        {"kv_type": KvType.Q8_0},
        {"flash_attn": FlashAttention.OFF},
        {"mode_dir": None},
    ],
    ids=lambda other: next(iter(other)),
)
def test_other_kernels_have_not_passed(passed: EngineConfig, other: EngineChanges) -> None:
    assert not SelfTestRecord.of(replace(passed, **other)).passed


def test_a_file_that_changed_in_place_has_not_passed(passed: EngineConfig) -> None:
    status = passed.model_path.stat()
    os.utime(passed.model_path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert not SelfTestRecord.of(passed).passed


@pytest.mark.parametrize("what", ["build_fingerprint", "cpu_fingerprint"])
def test_another_build_and_another_cpu_have_not_passed(
    passed: EngineConfig, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(machine_records, what, lambda: "another one")
    assert not SelfTestRecord.of(passed).passed


def test_a_small_model_is_always_tested(passed: EngineConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_records, "LARGE_BYTES", 6)
    assert not SelfTestRecord.of(passed).passed


def test_where_a_gpu_may_compute_the_model_is_always_tested(
    passed: EngineConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "driver").touch()
    monkeypatch.setattr(machine_records, "GPU_DRIVER", tmp_path / "driver")
    assert not SelfTestRecord.of(replace(passed, device=Device.AUTO)).passed
    assert SelfTestRecord.of(passed).passed


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"passed": 1}', b"\xff"])
def test_a_damaged_record_is_as_none(passed: EngineConfig, content: bytes) -> None:
    path = SelfTestRecord.of(passed).path
    assert path is not None
    path.write_bytes(content)
    assert not SelfTestRecord.of(passed).passed


def test_a_folder_that_cannot_be_made_costs_a_warning(
    config: EngineConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    SelfTestRecord.of(replace(config, mode_dir=tmp_path / "file" / "modes")).save()
    assert "some.gguf could not be recorded" in caplog.text


def test_a_file_that_is_gone_has_not_passed(passed: EngineConfig) -> None:
    passed.model_path.unlink()
    assert not SelfTestRecord.of(passed).passed


def test_the_self_test_is_made_until_the_file_has_passed(config: EngineConfig) -> None:
    modes = EngineModes(config, lambda: None)
    assert modes.next_config().self_test
    assert modes.next_config().self_test  # it ended before it was ready
    becomes_ready(modes)
    assert not modes.next_config().self_test
    assert not EngineModes(config, lambda: None).next_config().self_test


def test_a_safer_mode_is_tested_though_the_faster_one_had_passed(passed: EngineConfig) -> None:
    modes = EngineModes(passed, lambda: None)
    assert not modes.next_config().self_test
    assert modes.failed("was ended by SIGSEGV", crashed=True)
    assert modes.next_config().self_test


def test_a_process_that_made_no_self_test_records_none(passed: EngineConfig) -> None:
    modes = EngineModes(passed, lambda: None)
    modes.next_config()
    (record,) = (passed.mode_dir or Path()).iterdir()
    record.unlink()
    becomes_ready(modes)
    assert not SelfTestRecord.of(passed).passed


def test_the_build_and_the_cpu_are_told_apart_by_what_matters() -> None:
    assert "libggml-cpu.so" in build_fingerprint()
    assert cpu_fingerprint()
