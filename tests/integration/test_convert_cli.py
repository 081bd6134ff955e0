from pathlib import Path

import pytest
from click.testing import CliRunner
from gguf import GGUFReader

from convert.cli import convert
from convert.mixture import QuantType
from tests.support.chatglm2_checkpoint import Shape, make_weights, write_checkpoint

SHAPE = Shape(layers=1, ffn=544)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "my-glm", SHAPE, make_weights(SHAPE, 1), dtype="F16")


def test_the_command_writes_a_file_and_says_what_it_did(checkpoint: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(convert, [str(checkpoint), "-o", str(tmp_path / "m.gguf"), "-q", "q4_K_m"])
    assert result.exit_code == 0, result.output
    assert "q4_k_m, 10 tensors" in result.output
    assert "1 tensor Q6_K -> Q8_0: rows of 544 are no multiple of 256" in result.output
    fields = GGUFReader(tmp_path / "m.gguf").fields
    assert fields["general.file_type"].contents() == 15
    assert fields["glmserve.prompt_format"].contents() == "chatglm2"


def test_the_name_comes_from_the_source_and_the_type(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(convert, ["my-glm", "-q", "q8_0"]).exit_code == 0
    assert (tmp_path / "my-glm.q8_0.gguf").exists()


def test_an_error_is_one_line_and_exit_code_one(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "tokenizer.model").unlink()
    result = CliRunner().invoke(convert, [str(checkpoint), "-o", str(tmp_path / "m.gguf")])
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert result.output.count("\n") == 1
    assert not (tmp_path / "m.gguf").exists()


def test_a_type_that_does_not_exist_is_a_usage_error(checkpoint: Path) -> None:
    result = CliRunner().invoke(convert, [str(checkpoint), "-q", "q7"])
    assert result.exit_code == 2
    assert "q4_k_m" in result.output


def test_help_lists_every_type_and_the_default() -> None:
    text = CliRunner().invoke(convert, ["--help"]).output
    assert all(quant.value in text for quant in QuantType)
    assert "[default: q4_k_m]" in text
