"""Installed as people do, from the wheel and from the sdist, and asked for an answer in another folder.

llama.cpp is taken from the build that `make install` keeps, where there is one, and is compiled otherwise.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.conftest import ROOT, running_server

UV = str(Path(sys.executable).with_name("uv"))
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
SECONDS = 1800


@dataclass(frozen=True)
class Package:
    wheel: Path
    sdist: Path


@pytest.fixture(scope="module")
def package(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Package:
    folder = request.config.getoption("--packages")
    if folder is None:
        folder = tmp_path_factory.mktemp("dist")
        run([UV, "build", "--quiet", "--python", sys.executable, "--out-dir", str(folder), str(ROOT)], folder)
    (wheel,), (sdist,) = Path(folder).resolve().glob("*.whl"), Path(folder).resolve().glob("*.tar.gz")
    return Package(wheel, sdist)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home of a user who has installed nothing."""
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def run(command: list[str], folder: Path, **variables: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GLMSERVE_", "VIRTUAL_"))}
    done = subprocess.run(
        command,
        cwd=folder,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def built() -> str:
    """The folders of builds that `make install` keeps."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "glmserve" / "llama.cpp"
    return " ".join(str(wheel.parent) for wheel in sorted(cache.glob("*/*.whl")))


def is_python(program: Path | str, version: str) -> bool:
    """It runs, is of this version and can make environments: pyenv's shims and Debian's parts of Python fail here."""
    code = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([program, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return False
    return done.stdout.strip() == version


def python(version: str) -> str:
    """A Python of this version, on the PATH, of pyenv or of uv; the test is skipped by name where there is none."""
    folders = [Path(folder) for folder in os.environ["PATH"].split(os.pathsep)]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    folders += sorted(each / "bin" for each in (pyenv / "versions").glob(f"{version}.*"))
    programs = [sys.executable, *(str(folder / f"python{version}") for folder in folders)]
    managed = [UV, "python", "find", "--no-project", "--python-preference", "only-managed", version]
    programs.append(subprocess.run(managed, capture_output=True, text=True, check=False).stdout.strip())
    for program in filter(None, programs):
        if is_python(program, version):
            return program
    pytest.skip(f"NOT TESTED: no Python {version} with venv and ensurepip on the PATH, of pyenv or of uv")


def answers(glmserve: Path, home: Path) -> None:
    """The embedded model, from a folder that has nothing to do with the project."""
    with running_server(log=home / "log", folder=home, program=str(glmserve)) as (url, _):
        body = {"messages": [{"role": "user", "content": "你好"}]}
        reply = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)
        assert reply.json()["choices"][0]["message"]["content"]
        page = httpx.get(url)
        assert page.text.startswith("<!doctype html>")
        assert httpx.get(f"{url}/v1/models?kind=task").json()["data"]


@pytest.mark.parametrize("version", PYTHONS)
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_pip_installs_it(package: Package, home: Path, version: str, kind: str) -> None:
    run([python(version), "-m", "venv", str(home / "venv")], home)
    pip = [str(home / "venv" / "bin" / "python"), "-m", "pip", "install", "--quiet", str(getattr(package, kind))]
    run(pip, home, PIP_FIND_LINKS=f"{os.environ.get('PIP_FIND_LINKS', '')} {built()}".strip())
    answers(home / "venv" / "bin" / "glmserve", home)


def test_uv_installs_it_as_a_tool(package: Package, home: Path) -> None:
    folders = {"UV_TOOL_DIR": str(home / "tools"), "UV_TOOL_BIN_DIR": str(home / "bin")}
    command = [UV, "tool", "install", "--python", sys.executable, str(package.wheel)]
    run(command, home, UV_FIND_LINKS=built().replace(" ", ","), **folders)
    answers(home / "bin" / "glmserve", home)


def test_pipx_installs_it(package: Package, home: Path) -> None:
    run([UV, "venv", "--quiet", "--python", sys.executable, "pipx"], home)
    run([UV, "pip", "install", "--quiet", "--python", "pipx/bin/python", "pipx"], home)
    folders = {"PIPX_HOME": str(home / "tools"), "PIPX_BIN_DIR": str(home / "bin")}
    command = [str(home / "pipx" / "bin" / "pipx"), "install", "--python", sys.executable, str(package.wheel)]
    run(command, home, PIP_FIND_LINKS=built(), **folders)
    answers(home / "bin" / "glmserve", home)


@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_build_llama_puts_a_build_in_the_place_of_the_old_one(package: Package, home: Path, installer: str) -> None:
    """With the path of the environment in it, which has a blank."""
    venv = home / "an environment"
    run([sys.executable, "-m", "venv", str(venv)], home)
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", str(package.wheel)]
    run(pip, home, PIP_FIND_LINKS=built())
    (old,) = (venv / "lib").glob("python*/site-packages/llama_cpp/lib/libllama.so")
    before = old.stat().st_mtime_ns
    paths = str(Path(UV).parent) if installer == "uv" else ""
    search = os.pathsep.join(filter(None, [paths, *os.environ["PATH"].split(os.pathsep)]))
    if installer == "pip":
        search = os.pathsep.join(each for each in search.split(os.pathsep) if shutil.which("uv", path=each) is None)
    run([str(venv / "bin" / "glmserve"), "build-llama"], home, PATH=search)
    assert old.stat().st_mtime_ns != before
    assert not list(old.parent.glob("libmtmd*")), "a part that the server does not use"
    answers(venv / "bin" / "glmserve", home)
