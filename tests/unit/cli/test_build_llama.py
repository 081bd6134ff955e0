"""What `glmserve build-llama` runs, and what it tells."""

import shlex
import sys
from importlib.metadata import requires
from importlib.resources import files
from pathlib import Path

import pytest
from click.testing import CliRunner

from glmserve.cli.build_llama import NoInstallerError, _run, cmake_arguments, find_installer, pinned
from glmserve.cli.main import main

ROOT = Path(__file__).parents[3]


def test_the_settings_are_those_of_make_install() -> None:
    said = CliRunner().invoke(main, ["build-llama", "--dry-run"]).output
    variable, *words = shlex.split(said)
    arguments = shlex.split(variable.removeprefix("CMAKE_ARGS="))
    include = next(each for each in arguments if each.startswith("-DCMAKE_PROJECT_llama_cpp_INCLUDE="))
    settings = Path(include.partition("=")[2])
    for file in (ROOT / "cmake").iterdir():
        assert (settings.parent / file.name).read_bytes() == file.read_bytes()
    assert "-DLLAVA_BUILD=OFF" in arguments
    assert "-DLLAVA_BUILD=OFF" in (ROOT / "Makefile").read_text("utf-8")
    locked = (ROOT / "requirements" / "run.txt").read_text("utf-8")
    assert f"{words[-1]} \\" in locked


def test_a_folder_with_blanks_and_further_arguments_reach_cmake_whole() -> None:
    arguments = shlex.split(cmake_arguments(Path("/a b"), ("-DGGML_CUDA=ON", "-DX=1 2")))
    assert arguments[1:] == ["-DCMAKE_PROJECT_llama_cpp_INCLUDE=/a b/lean.cmake", "-DGGML_CUDA=ON", "-DX=1 2"]


def test_uv_installs_where_it_is_there_and_pip_otherwise() -> None:
    assert find_installer("/bin/uv", has_pip=True, python="/p").words("x")[:5] == [
        "/bin/uv",
        "pip",
        "install",
        "--python",
        "/p",
    ]
    words = find_installer(None, has_pip=True, python="/p").words("x")
    assert words[:4] == ["/p", "-m", "pip", "install"]
    assert "--no-cache-dir" in words, "pip's cache knows nothing of CMAKE_ARGS"
    with pytest.raises(NoInstallerError, match="ensurepip"):
        find_installer(None, has_pip=False, python="/p")


def test_the_version_is_the_one_that_the_package_asks_for() -> None:
    assert (
        pinned(['fastapi>=1; extra == "x"', 'llama-cpp-python==0.3.36; os_name == "posix"'])
        == "llama-cpp-python==0.3.36"
    )
    assert pinned(requires("glmserve") or ())
    assert (files("glmserve") / "cmake" / "lean.cmake").is_file()


def test_progress_is_reported_and_a_failure_has_its_last_lines(capsys: pytest.CaptureFixture[str]) -> None:
    code = "print('DEBUG [7/210] Building CXX object'); print('no compiler here'); raise SystemExit(3)"
    with pytest.raises(Exception, match=r"(?s)status 3:.*no compiler here"):
        _run([sys.executable, "-c", code], {})
    assert "compiling: 7 of 210" in capsys.readouterr().err
