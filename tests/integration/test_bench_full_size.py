"""The scripts that make and measure a full-size checkpoint, on a small configuration."""

import json
import shutil
from pathlib import Path

import pytest

from bench.convert_full_size import run_step, same_tensors
from bench.synthetic.make_full_size import make_folder
from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from tests.support.chatglm2_checkpoint import Shape, make_config, small_tokenizer

SHAPE = Shape(hidden=256, heads=2, groups=1, layers=3, ffn=544)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(make_config(SHAPE)), encoding="utf-8")
    (folder / "tokenizer.model").write_bytes(small_tokenizer())
    return folder


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_a_folder_of_either_format_is_whole_and_converts(kind: str, config: Path, tmp_path: Path) -> None:
    make_folder(config, tmp_path / "full", kind, shards=4, seed=1)
    assert len(list((tmp_path / "full").glob(f"*-of-00004.{kind}"))) == 4
    assert convert_checkpoint(tmp_path / "full", tmp_path / "m.gguf", QuantType.Q4_K_M).tensors == 3 + 7 * 3


def test_both_formats_hold_the_same_values(config: Path, tmp_path: Path) -> None:
    for kind in ("safetensors", "bin"):
        make_folder(config, tmp_path / kind, kind, shards=2, seed=1)
        convert_checkpoint(tmp_path / kind, tmp_path / f"{kind}.gguf", QuantType.F16)
    assert same_tensors(tmp_path / "safetensors.gguf", tmp_path / "bin.gguf")
    shutil.rmtree(tmp_path / "bin")
    (tmp_path / "bin.gguf").unlink()
    make_folder(config, tmp_path / "bin", "bin", shards=2, seed=2)
    convert_checkpoint(tmp_path / "bin", tmp_path / "bin.gguf", QuantType.F16)
    assert not same_tensors(tmp_path / "safetensors.gguf", tmp_path / "bin.gguf")


def test_one_step_and_two_steps_end_in_the_same_bytes_and_say_what_they_took(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_folder(config, tmp_path / "full", "safetensors", shards=2, seed=1)
    run_step("convert", tmp_path / "full", tmp_path / "one.gguf", QuantType.Q4_K_M)
    run_step("convert", tmp_path / "full", tmp_path / "f16.gguf", QuantType.F16)
    run_step("quantize", tmp_path / "f16.gguf", tmp_path / "two.gguf", QuantType.Q4_K_M)
    assert same_tensors(tmp_path / "one.gguf", tmp_path / "two.gguf")
    costs = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert [set(cost) for cost in costs] == [{"wall", "processor", "peak_mib"}] * 3
