import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from gguf import GGUFReader

from glmserve.convert.cli import convert
from glmserve.convert.quantize.recipes import QuantType
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
    assert "[default: q4_k_m; q8_0" in text


def run(*arguments: object) -> str:
    """Run the command and return its one line about what is wrong."""
    result = CliRunner().invoke(convert, [str(argument) for argument in arguments])
    assert result.exit_code in (1, 2)
    assert "Traceback" not in result.output
    return result.output.splitlines()[-1]


def test_an_output_folder_gets_the_usual_name(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """-o . was a traceback, and -o sub/ a file called sub."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    for folder in (".", "sub", "sub/"):
        assert CliRunner().invoke(convert, ["my-glm", "-q", "q8_0", "-o", folder]).exit_code == 0
    assert (tmp_path / "my-glm.q8_0.gguf").exists()
    assert (tmp_path / "sub" / "my-glm.q8_0.gguf").exists()
    assert "the folder does not exist; create it first" in run("my-glm", "-o", "none/")


def test_only_a_file_of_the_same_source_is_replaced_unless_forced(checkpoint: Path, tmp_path: Path) -> None:
    out, mine = tmp_path / "m.gguf", tmp_path / "mine.txt"
    other = write_checkpoint(tmp_path / "other", SHAPE, make_weights(SHAPE, 2), dtype="F16")
    for quant in ("q8_0", "f16"):  # the same source, whatever the type
        assert CliRunner().invoke(convert, [str(checkpoint), "-o", str(out), "-q", quant]).exit_code == 0
    before = out.read_bytes()
    assert "was not made from this source" in run(other, "-o", out)
    assert out.read_bytes() == before
    assert CliRunner().invoke(convert, [str(other), "-o", str(out), "--force"]).exit_code == 0
    assert out.read_bytes() != before
    mine.write_text("mine")
    assert "was not made from this source" in run(checkpoint, "-o", mine)
    assert mine.read_text() == "mine"


def test_an_input_is_never_replaced(checkpoint: Path, tmp_path: Path) -> None:
    for name in ("model.safetensors", "config.json", "tokenizer.model"):
        before = (checkpoint / name).read_bytes()
        assert "is one of the files that are converted" in run(checkpoint, "-o", checkpoint / name, "--force")
        assert (checkpoint / name).read_bytes() == before


def test_links_devices_and_pipes_stay_what_they_are(checkpoint: Path, tmp_path: Path) -> None:
    target, link, pipe = (tmp_path / name for name in ("target", "link", "pipe"))
    target.write_text("precious")
    link.symlink_to(target)
    os.mkfifo(pipe)
    assert "is a symbolic link to" in run(checkpoint, "-o", link, "--force")
    assert "is a named pipe" in run(checkpoint, "-o", pipe, "--force")
    assert "/dev/full is a device" in run(checkpoint, "-o", "/dev/full", "--force")
    assert target.read_text() == "precious"
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


def test_the_standard_output_and_the_null_device_are_written_to(checkpoint: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "glmserve.cli.main", "convert", str(checkpoint), "-q", "q8_0", "-o"]
    piped = subprocess.run([*command, "-"], capture_output=True, check=True)
    assert subprocess.run([*command, "/dev/stdout"], capture_output=True, check=True).stdout == piped.stdout
    subprocess.run([*command, str(tmp_path / "m.gguf")], check=True, capture_output=True)
    assert piped.stdout == (tmp_path / "m.gguf").read_bytes()
    assert b"10 tensors" in piped.stderr
    timed = subprocess.run([*command, os.devnull], check=True, capture_output=True)
    assert b"10 tensors" in timed.stdout
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)
    assert "--verify reads the file again" in run(checkpoint, "-o", "-", "--verify")
