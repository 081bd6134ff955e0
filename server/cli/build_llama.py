"""``glmserve build-llama``: compile llama.cpp again for this machine, with the settings of ``make install``."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import requires
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

_PACKAGE = "llama-cpp-python"
_STEP = re.compile(r"\[(\d+)/(\d+)\]")
"""How ninja counts what it compiles."""
_LINE_SECONDS = 10.0
_LAST_LINES = 30
CUDA = ("-DGGML_CUDA=ON", "-DGGML_CUDA_NO_VMM=ON")


class NoInstallerError(click.ClickException):
    """Neither uv nor pip is there to build with."""


@dataclass(frozen=True, slots=True)
class Installer:
    """The command that builds a package from source and installs it beside this one."""

    command: tuple[str, ...]

    def words(self, requirement: str) -> list[str]:
        """Return the whole command. Neither installer may take a wheel from its cache: it may have other settings."""
        return [*self.command, "--no-deps", "--no-binary", _PACKAGE, requirement]


def find_installer(uv: str | None, *, has_pip: bool, python: str) -> Installer:
    """Choose uv where it is installed, and else pip.

    Raises:
        NoInstallerError: there is neither.
    """
    if uv:
        options = ("--python", python, "--no-cache", "--reinstall-package", _PACKAGE, "--verbose")
        return Installer((uv, "pip", "install", *options))
    if has_pip:
        return Installer((python, "-m", "pip", "install", "--no-cache-dir", "--force-reinstall", "--verbose"))
    raise NoInstallerError("neither uv nor pip was found; install one of them: python -m ensurepip, or pip install uv")


def cmake_arguments(settings: Path, more: Iterable[str]) -> str:
    """Return ``CMAKE_ARGS``: the parts that the server uses, the repairs in the folder ``settings``, and ``more``."""
    lean = ("-DLLAVA_BUILD=OFF", f"-DCMAKE_PROJECT_llama_cpp_INCLUDE={settings / 'lean.cmake'}")
    return shlex.join([*lean, *more])


def pinned(requirements: Iterable[str]) -> str:
    """Return the requirement of llama-cpp-python, with its version."""
    return next(line.partition(";")[0].strip() for line in requirements if line.startswith(f"{_PACKAGE}=="))


@click.command("build-llama")
@click.option("--cuda", is_flag=True, help="Build for NVIDIA GPUs; needs the CUDA toolkit.")
@click.option("--cmake-args", default="", metavar="ARGUMENTS", help="More arguments for CMake.")
@click.option("--dry-run", is_flag=True, help="Print the command and run nothing.")
def build_llama(*, cuda: bool, cmake_args: str, dry_run: bool) -> None:
    """Compile llama.cpp for this machine and install it in place of the present build.

    For installations by pip, pipx or uv, which compile it with its own settings. This builds only the parts that the
    server uses, with a repair for Intel CPUs with AMX. It needs a C++ compiler and takes three to ten minutes.
    """
    installer = find_installer(shutil.which("uv"), has_pip=find_spec("pip") is not None, python=sys.executable)
    words = installer.words(pinned(requires("glmserve") or ()))
    with as_file(files("glmserve") / "cmake") as settings:
        arguments = cmake_arguments(settings, (*(CUDA if cuda else ()), *shlex.split(cmake_args)))
        if dry_run:
            click.echo(f"CMAKE_ARGS={shlex.quote(arguments)} {shlex.join(words)}")
            return
        _run(words, {**os.environ, "CMAKE_ARGS": arguments})
    click.echo("llama.cpp was built; the next start of the server tests it")


def _run(words: list[str], variables: Mapping[str, str]) -> None:
    """Run the build and show how far it is.

    Raises:
        ClickException: it failed; the message has its last lines.
    """
    with subprocess.Popen(
        words, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        last: list[str] = []
        for _ in _shown(_remembered(process.stdout, last)):
            pass
    if process.returncode:
        raise click.ClickException(f"the build failed with status {process.returncode}:\n{''.join(last)}")


def _remembered(lines: Iterable[str], last: list[str]) -> Iterator[str]:
    for line in lines:
        last.append(line)
        del last[:-_LAST_LINES]
        yield line


def _shown(lines: Iterable[str]) -> Iterator[str]:
    """Draw a bar in a terminal, and else print a line from time to time."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield from _printed(lines)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bars:
        task = bars.add_task("preparing", total=None)
        for line in lines:
            if step := _STEP.search(line):
                bars.update(task, description="compiling", completed=int(step[1]), total=int(step[2]))
            yield line


def _printed(lines: Iterable[str]) -> Iterator[str]:
    following = 0.0
    for line in lines:
        if (step := _STEP.search(line)) and time.monotonic() >= following:
            following = time.monotonic() + _LINE_SECONDS
            click.echo(f"compiling: {step[1]} of {step[2]}", err=True)
        yield line
