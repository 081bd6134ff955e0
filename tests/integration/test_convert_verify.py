"""`--verify` finds nothing wrong with a good file, and says in one line what is wrong with a bad one."""

import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from gguf import GGUFReader

from glmserve.convert.cli import convert
from glmserve.convert.errors import UnverifiedError, VerifyError
from glmserve.convert.pipeline import convert_checkpoint, plan_conversion
from glmserve.convert.quantize.recipes import QuantType
from glmserve.convert.verify import verify_file
from tests.support import baichuan_checkpoint
from tests.support.chatglm2_checkpoint import Shape, make_weights, write_checkpoint

SHAPE = Shape(hidden=128, heads=1, groups=1, layers=1, ffn=32)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "my-glm", SHAPE, make_weights(SHAPE, 1), dtype="F16")


@pytest.fixture
def gguf(checkpoint: Path, tmp_path: Path) -> Path:
    convert_checkpoint(checkpoint, tmp_path / "m.gguf", QuantType.Q8_0)
    return tmp_path / "m.gguf"


def complaint(gguf: Path, checkpoint: Path) -> str:
    with pytest.raises(VerifyError) as caught:
        verify_file(gguf, plan_conversion(checkpoint, QuantType.Q8_0))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_command_says_what_it_tried(checkpoint: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(convert, [str(checkpoint), "-o", str(tmp_path / "m.gguf"), "-q", "q8_0", "--verify"])
    assert result.exit_code == 0, result.output
    assert "verified: 10 tensors, 5 texts to tokens and back, 16 tokens computed by llama.cpp" in result.output


def test_a_baichuan_passes_too(tmp_path: Path) -> None:
    shape = baichuan_checkpoint.ALIBI_2
    folder = baichuan_checkpoint.write_checkpoint(tmp_path / "hf", shape, baichuan_checkpoint.make_weights(shape, 1))
    convert_checkpoint(folder, tmp_path / "m.gguf", QuantType.F16)
    assert verify_file(tmp_path / "m.gguf", plan_conversion(folder, QuantType.F16)).tensors == 3 + 9 * 40


def test_a_file_of_another_type_is_not_what_was_planned(checkpoint: Path, gguf: Path) -> None:
    with pytest.raises(VerifyError, match=r"token_embd\.weight is Q8_0 \[512, 128\] where F16 \[512, 128\]"):
        verify_file(gguf, plan_conversion(checkpoint, QuantType.F16))


def test_a_file_that_is_cut_off_is_named_with_the_tensor(checkpoint: Path, gguf: Path) -> None:
    gguf.write_bytes(gguf.read_bytes()[:-1000])
    assert "failed its check" in complaint(gguf, checkpoint)


def test_a_file_that_is_none_is_said_to_be_none(checkpoint: Path, gguf: Path) -> None:
    gguf.write_bytes(b"GGUF" + bytes(100))
    assert "no readable GGUF file" in complaint(gguf, checkpoint)
    gguf.unlink()
    assert "cannot be read" in complaint(gguf, checkpoint)


def test_weights_that_are_not_finite_show_when_llama_cpp_computes(checkpoint: Path, gguf: Path) -> None:
    tensor = next(t for t in GGUFReader(gguf).tensors if t.name == "output_norm.weight")
    data = bytearray(gguf.read_bytes())
    data[tensor.data_offset : tensor.data_offset + tensor.n_bytes] = np.full(128, np.nan, "<f4").tobytes()
    gguf.write_bytes(data)
    assert "not finite" in complaint(gguf, checkpoint)


def test_a_vocabulary_that_llama_cpp_aborts_on_is_a_line_and_no_crash(checkpoint: Path, gguf: Path) -> None:
    """Two equal tokens end the process that loads the file."""
    data = gguf.read_bytes()
    assert b"<sop>" in data
    gguf.write_bytes(data.replace(b"<sop>", b"<eop>", 1))
    assert "llama.cpp ends with signal 6 on it" in complaint(gguf, checkpoint)


def test_a_metadata_key_that_llama_cpp_needs_is_missed(checkpoint: Path, gguf: Path) -> None:
    gguf.write_bytes(gguf.read_bytes().replace(b"chatglm.block_count", b"chatglm.block_cuont", 1))
    assert "llama.cpp does not load it" in complaint(gguf, checkpoint)


def _python_that(folder: Path, does: str) -> str:
    """Return an interpreter that ends by a signal, unless it is told to repack nothing and ``does`` allows that."""
    script = folder / "python"
    script.write_text(f'#!/bin/sh\n{does}\nexec "{sys.executable}" "$@"\n', "utf-8")
    script.chmod(0o755)
    return str(script)


def test_a_build_that_dies_of_repacked_weights_says_nothing_of_the_file(
    checkpoint: Path, gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    does = 'case "$*" in *--no-extra-buffers*) ;; *) kill -SEGV $$ ;; esac'
    monkeypatch.setattr("glmserve.convert.verify.sys.executable", _python_that(tmp_path, does))
    verdict = str(verify_file(gguf, plan_conversion(checkpoint, QuantType.Q8_0)))
    assert "16 tokens computed by llama.cpp without repacked weights (with them, on this CPU: " in verdict
    assert "signal 11" in verdict


def test_a_build_for_another_cpu_leaves_a_file_unverified_and_not_bad(
    checkpoint: Path, gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glmserve.convert.verify.sys.executable", _python_that(tmp_path, "kill -ILL $$"))
    with pytest.raises(UnverifiedError, match=r"not checked: this build of llama\.cpp was made for another CPU"):
        verify_file(gguf, plan_conversion(checkpoint, QuantType.Q8_0))


def test_a_file_that_kills_llama_cpp_either_way_is_still_bad(
    checkpoint: Path, gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glmserve.convert.verify.sys.executable", _python_that(tmp_path, "kill -ABRT $$"))
    assert "signal 6" in complaint(gguf, checkpoint)
