"""Which built llama.cpp `make install` takes again: only one for the same code, compiler, CPU and arguments."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "a path with blanks"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    for name in ("cmake", "requirements"):
        shutil.copytree(ROOT / name, folder / name)
    return folder


def _make(checkout: Path, *arguments: str) -> str:
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "LLAMA", "MFLAGS"))}
    done = subprocess.run(
        ["make", "--dry-run", *arguments], cwd=checkout, capture_output=True, text=True, check=True, env=variables
    )
    return done.stdout


def _kept_in(checkout: Path, *arguments: str) -> str:
    printed = _make(checkout, "--print-data-base", "help", *arguments)
    (line,) = (line for line in printed.splitlines() if line.startswith("LLAMA_BUILT := "))
    return line


def test_the_folder_of_a_build_is_the_same_for_the_same_build_and_another_one_for_any_other(checkout: Path) -> None:
    usual = _kept_in(checkout)
    assert _kept_in(checkout) == usual
    compiler = checkout / "other-compiler"
    compiler.write_text("#!/bin/sh\necho '#define __AMX_INT8__ 1'\n", "utf-8")
    compiler.chmod(0o755)
    folders = {usual, _kept_in(checkout, "LLAMA_CMAKE_ARGS=-DGGML_CUDA=ON"), _kept_in(checkout, "CXX=./other-compiler")}
    header = checkout / "cmake" / "tile_config.h"
    header.write_text(header.read_text("utf-8") + "\n", "utf-8")
    folders.add(_kept_in(checkout))
    assert len(folders) == 4


def test_a_path_with_blanks_reaches_cmake_whole(checkout: Path) -> None:
    home = checkout / "home"
    printed = _make(checkout, "install", f"XDG_CACHE_HOME={home}")
    (build,) = (line for line in printed.replace("\\\n", " ").splitlines() if "CMAKE_ARGS=" in line)
    assignment = build[build.index("CMAKE_ARGS=") : build.index(" .venv/bin/python -m pip")]
    said = subprocess.run(
        ["bash", "-c", f'{assignment}; python3 -c "import shlex, sys; print(shlex.split(sys.argv[1]))" "$CMAKE_ARGS"'],
        cwd=checkout, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"'-DCMAKE_PROJECT_llama_cpp_INCLUDE={checkout}/cmake/lean.cmake'" in said.stdout
    assert f'"{home}/glmserve/llama.cpp/' in build
