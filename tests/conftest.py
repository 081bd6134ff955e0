"""What tests of every kind share: the embedded model, converted, and a server on it."""

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import hypothesis
import pytest

from tests.support.faults import FAULTY_SERVER, VARIABLE

os.environ["LC_ALL"] = "C.UTF-8"  # the commands speak the language of whoever runs the tests

ROOT = Path(__file__).resolve().parent.parent

# How long an example takes depends on the machine and on what else it does.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio alone."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def _without_amx() -> Iterator[None]:
    from tests.support.amx import out_of_this_process

    with out_of_this_process():
        yield


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model as q8_0."""
    from glmserve.convert.pipeline import convert_checkpoint
    from glmserve.convert.quantize.recipes import QuantType

    out = tmp_path_factory.mktemp("tiny") / "chatglm2-tiny.gguf"
    convert_checkpoint(ROOT / "models" / "tiny", out, QuantType.Q8_0, None)
    return out


@pytest.fixture(scope="session")
def q4_k_m_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model in the default type, within a network whose widths allow its blocks."""
    from bench.synthetic.make_widened import make_widened
    from bench.synthetic.widened import Shape
    from glmserve.convert.quantize.recipes import QuantType

    out = tmp_path_factory.mktemp("wide") / "q4_k_m.gguf"
    make_widened(ROOT / "models" / "tiny", Shape(512, 3, 4, 512, 1664, 4096), out, QuantType.Q4_K_M)
    return out


@pytest.fixture(scope="session")
def exact_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model in F32.

    Quantised, what a token is computed with (a prompt, drafts, other requests) decides between two that are nearly as
    probable, and so does the CPU.
    """
    from glmserve.convert.pipeline import convert_checkpoint
    from glmserve.convert.quantize.recipes import QuantType

    out = tmp_path_factory.mktemp("exact") / "chatglm2-tiny.gguf"
    convert_checkpoint(ROOT / "models" / "tiny", out, QuantType.F32, None)
    return out


@contextlib.contextmanager
def running_server(
    *arguments: str,
    log: Path,
    environment: Mapping[str, str] = MappingProxyType({}),
    group: bool = False,
    faults: str = "",
    folder: Path | None = None,
    program: str | None = None,
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """`glmserve serve` in a process of its own on a free port; yields its address once it is ready.

    Its cache folder lies beside ``log``, unless the arguments name another one.

    Args:
        arguments: of the command.
        log: where its output goes.
        environment: more variables than those of this process.
        group: whether it leads a process group of its own.
        faults: the plan by which its engines fail; see ``tests/support/faults.py``.
        folder: where it is started, if not here.
        program: the command that is started, if not the one of this environment.
    """
    usual = (program or str(Path(sys.executable).with_name("glmserve")),)
    command = [*(FAULTY_SERVER if faults else usual), "serve", "--port", "0", *arguments]
    variables = {**_environment(log.parent / "cache"), **environment, **({VARIABLE: faults} if faults else {})}
    with (
        log.open("wb") as sink,
        subprocess.Popen(
            command, stdout=sink, stderr=sink, env=variables, start_new_session=group, cwd=folder
        ) as process,
    ):
        try:
            yield _address(process, log), process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _environment(cache: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GLMSERVE_")}
    return {**kept, "PYTHONUNBUFFERED": "1", "GLMSERVE_CACHE_DIR": str(cache)}


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    for _ in range(1000):
        found = re.search(r"is ready on (http://127\.0\.0\.1:\d+)", log.read_text("utf-8"))
        if found:
            return found.group(1)
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise AssertionError(f"the server did not get ready:\n{log.read_text('utf-8')}")


@pytest.fixture(scope="session")
def server_url(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server on the embedded model, with the tasks of the package, and names of other models."""
    options = ("--alias", "gpt-3.5-turbo", "--alias", "chatglm3-6b")
    log = tmp_path_factory.mktemp("server") / "log"
    with running_server(str(tiny_gguf), *options, log=log) as (url, _):
        yield url
