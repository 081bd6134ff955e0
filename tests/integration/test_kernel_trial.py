"""The trial of llama.cpp's kernels: which way of keeping weights is faster is measured once, and then known."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from glmserve.engine.client import machine_records
from glmserve.engine.client.client import EngineClient
from glmserve.engine.client.compute_modes import EngineModes, ModeMemory
from glmserve.engine.client.kernel_choice import KernelTrial
from glmserve.engine.config import ComputeMode, Device, EngineConfig, Repack
from glmserve.engine.kernel_timing import MEASURED_ROWS, KernelChoice
from tests.support.bert import random_bert
from tests.support.wrong_engines import crash_when_repacked, measure_nothing

TINY = Path(__file__).parents[2] / "models" / "tiny"


@pytest.fixture
def trial(tiny_gguf: Path, tmp_path: Path) -> KernelTrial:
    config = EngineConfig(tiny_gguf, context_length=256, device=Device.CPU, mode_dir=tmp_path / "modes")
    return KernelTrial(config, least_bytes=0)


@pytest.mark.parametrize("quant", [QuantType.Q4_K_M, QuantType.Q4_0])
def test_both_ways_are_measured_and_the_choice_is_remembered(
    quant: QuantType, trial: KernelTrial, tmp_path: Path
) -> None:
    convert_checkpoint(TINY, tmp_path / "m.gguf", quant)
    trial = replace(trial, config=replace(trial.config, model_path=tmp_path / "m.gguf"))
    choice = trial.choose()
    assert choice is not None
    assert tuple(timing.rows for timing in choice.timings) == MEASURED_ROWS
    assert all(timing.repacked > 0 and timing.as_is > 0 for timing in choice.timings)
    assert "measured to be" in choice.reason
    again = replace(trial, run=measure_nothing)
    assert again.choose() == again.known() == choice
    assert [path.name[:8] for path in (tmp_path / "modes").iterdir()] == ["kernels-"]


def test_a_fine_tune_of_the_same_types_needs_no_other_trial(trial: KernelTrial, tmp_path: Path) -> None:
    choice = trial.choose()
    other = tmp_path / "fine-tuned.gguf"
    other.write_bytes(trial.config.model_path.read_bytes()[:-4] + b"\1\2\3\4")
    config = replace(trial.config, model_path=other)
    assert replace(trial, config=config, run=measure_nothing).choose() == choice


@pytest.mark.parametrize("what", ["build_fingerprint", "cpu_fingerprint"])
def test_another_build_or_cpu_is_measured_anew(what: str, trial: KernelTrial, monkeypatch: pytest.MonkeyPatch) -> None:
    assert trial.choose() is not None
    monkeypatch.setattr(machine_records, what, lambda: "another one")
    assert trial.known() is None


def test_a_way_that_crashes_is_struck_off_and_remembered(trial: KernelTrial) -> None:
    choice = replace(trial, run=crash_when_repacked).choose()
    assert choice == KernelChoice(False, "llama.cpp was ended by SIGSEGV with repacked weights")
    assert replace(trial, run=measure_nothing).choose() == choice


def test_a_trial_that_ends_at_once_leaves_the_usual_way(trial: KernelTrial) -> None:
    choice = replace(trial, run=measure_nothing).choose()
    assert choice == KernelChoice(True, "not measured: llama.cpp ended with exit code 3")


def test_an_embedding_model_is_not_measured(trial: KernelTrial, tmp_path: Path) -> None:
    random_bert().write(tmp_path / "bert.gguf")
    choice = replace(trial, config=replace(trial.config, model_path=tmp_path / "bert.gguf")).choose()
    assert choice is not None
    assert choice.repack
    assert "only models that generate" in choice.reason


def test_a_small_model_starts_without_a_trial(trial: KernelTrial) -> None:
    assert KernelTrial(trial.config, run=measure_nothing).choose() is None


def test_a_damaged_file_of_an_earlier_trial_costs_another_one(
    trial: KernelTrial, caplog: pytest.LogCaptureFixture
) -> None:
    assert trial.choose() is not None
    assert trial.config.mode_dir is not None
    (kept,) = trial.config.mode_dir.iterdir()
    kept.write_bytes(b"\x00")
    assert replace(trial, run=crash_when_repacked).choose() == trial.known()
    assert json.loads(kept.read_bytes())["repack"] is False
    assert "cannot be read" in caplog.text


@pytest.mark.parametrize(
    ("choice", "mode"),
    [
        (KernelChoice(False, "it is faster"), ComputeMode.NO_EXTRA_BUFFERS),
        (KernelChoice(True, "it is faster"), ComputeMode.STANDARD),
        (None, ComputeMode.STANDARD),
    ],
)
def test_the_engine_starts_in_the_faster_way(choice: KernelChoice | None, mode: ComputeMode, tmp_path: Path) -> None:
    modes = EngineModes(EngineConfig(tmp_path / "m.gguf"), lambda: choice)
    assert modes.next_config().compute_mode is mode


def test_a_mode_that_had_to_be_found_counts_before_any_figure(tiny_gguf: Path, tmp_path: Path) -> None:
    ModeMemory(tmp_path, tiny_gguf).save(ComputeMode.PLAIN_KERNELS, "it died")
    config = EngineConfig(tiny_gguf, mode_dir=tmp_path)
    assert EngineModes(config, KernelTrial(config).choose).next_config().compute_mode is ComputeMode.PLAIN_KERNELS


async def test_repacking_is_switched_off_by_a_setting(
    trial: KernelTrial, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    engine = EngineClient(replace(trial.config, repack=Repack.OFF))
    await engine.start()
    try:
        await engine.wait_ready(60)
    finally:
        await engine.stop()
    assert "weights are used as they lie in the file: asked for by --repack off" in caplog.text
    assert ", without repacked weights and AMX" in caplog.text
