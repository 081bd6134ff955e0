"""The other servers, built from the source that llama-cpp-python vendors: the very llama.cpp that this server runs."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

_TARGETS = ("llama-server", "llama-bench", "llama-batched-bench")

_AMX = Path(__file__).parents[2] / "cmake" / "amx.cmake"

_OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    # What ggml is compiled with is left as it is, which is how pip builds the wheel: for this machine's processor,
    # with OpenMP and llamafile's kernels. Below is only what needs time or the network and computes nothing.
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    # The same repair as of the installed wheel: without it, these programs die on CPUs with AMX.
    f"-DCMAKE_PROJECT_llama.cpp_INCLUDE={_AMX}",
)

_EXAMPLE_NEEDS = ("fastapi", "uvicorn", "jinja2", "openai", "pydantic", "safetensors", "websockets")
"""The packages that the header of ``examples/server/server.py`` lists, less llama-cpp-python and numpy."""


@dataclass(frozen=True, slots=True)
class Built:
    """Where the programs are."""

    work: Path
    """Folder of everything that is made."""
    programs: Path
    """Folder of llama-server, llama-bench and llama-batched-bench."""
    example_python: Path
    example_script: Path
    results: Path
    """The measurements, a line of JSON for each task."""
    baseline: Path | None = None
    """The program ``glmserve`` of another installation."""


def build(work: Path, source: Path | None, cmake_args: tuple[str, ...]) -> Built:
    """Build missing parts below ``work``; takes some ten minutes on two cores the first time.

    Args:
        work: a folder of its own.
        source: the unpacked sdist of llama-cpp-python; downloaded where it is None.
        cmake_args: what the installed wheel was built with beyond the usual (``LLAMA_CMAKE_ARGS`` of ``make``).
    """
    work.mkdir(parents=True, exist_ok=True)
    source = source or _download(work)
    tree = work / "llama.cpp"
    if not all((tree / "bin" / name).exists() for name in _TARGETS):
        cmake = shutil.which("cmake") or str(Path(sysconfig.get_path("scripts")) / "cmake")
        _run(cmake, "-S", str(source / "vendor" / "llama.cpp"), "-B", str(tree), *_OPTIONS, *cmake_args)
        _run(cmake, "--build", str(tree), "--parallel", str(os.cpu_count() or 1), "--target", *_TARGETS)
    return Built(
        work, tree / "bin", _example_python(work), source / "examples" / "server" / "server.py", work / "results.jsonl"
    )


def remembered_cmake_args() -> tuple[str, ...]:
    """Return the CMake arguments that ``make`` recorded for the installed wheel."""
    choice = Path(sys.prefix) / "llama-choice"
    return tuple(choice.read_text(encoding="utf-8").splitlines()[0].split()) if choice.exists() else ()


def _download(work: Path) -> Path:
    name = f"llama_cpp_python-{version('llama-cpp-python')}"
    if not (work / name).exists():
        wanted = name.replace("_", "-").replace("python-", "python==")
        # Its metadata is made with the build tools that are installed, rather than fetched anew.
        flags = ("--no-deps", "--no-build-isolation", "--no-binary", ":all:", "--dest", str(work))
        _run(sys.executable, "-m", "pip", "download", "--quiet", *flags, wanted)
        with tarfile.open(work / f"{name}.tar.gz") as archive:
            archive.extractall(work, filter="data")
    return work / name


def _example_python(work: Path) -> Path:
    """Make an environment for the example server, which finds this one's llama-cpp-python behind its own packages."""
    folder = work / "example-venv"
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        _run(str(python), "-m", "pip", "install", "--quiet", *_EXAMPLE_NEEDS)
        packages = next((folder / "lib").glob("python*/site-packages"))
        (packages / "behind.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return python


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
