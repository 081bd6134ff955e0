"""Set-up of the other steps: llama.cpp for the device, the facts of the machine, and the models."""

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.gpu.plan import Row
from bench.synthetic.make_widened import TINY, make_widened
from bench.synthetic.widened import SHAPES
from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType

_LEAN = Path(__file__).parents[2] / "cmake" / "lean.cmake"


@dataclass(frozen=True, slots=True)
class Bench:
    """The options of the command line."""

    work: Path
    device: str
    shape: str
    wheel: Path | None = None
    programs: Path | None = None
    source: Path | None = None
    architecture: str = "90-real"

    @property
    def exact(self) -> Path:
        """The embedded model in f16, so that two devices do not differ by its quantisation."""
        return self.work / "tiny-f16.gguf"

    @property
    def model(self) -> Path:
        """The model that is timed."""
        return self.work / f"{self.shape}-{self.quant.value}.gguf"

    @property
    def quant(self) -> QuantType:
        """The type of its weights: the embedded model's default, or that of larger ones."""
        return QuantType.Q8_0 if self.shape == "tiny" else QuantType.Q4_K_M

    @property
    def on_gpu(self) -> bool:
        """Whether this is no dry run."""
        return self.device == "cuda"


def build(bench: Bench) -> Iterator[Row]:
    """Put the wheel into a folder ahead of the installed packages; build one where there is none."""
    wheel = bench.wheel
    if wheel is None and bench.source is not None and bench.on_gpu and not _offloads():
        wheel = _built(bench)
    if wheel is not None:
        site = bench.work / "site"
        shutil.rmtree(site, ignore_errors=True)
        _run(sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", site, wheel)
        yield Row("llama.cpp", f"{wheel.name}, {wheel.stat().st_size / 1e6:.0f} MB")
    else:
        yield Row("llama.cpp", "as installed")


def _built(bench: Bench) -> Path:
    arguments = (
        f"-DLLAVA_BUILD=OFF -DCMAKE_PROJECT_llama_cpp_INCLUDE={_LEAN} -DGGML_CUDA=ON -DGGML_CUDA_NO_VMM=ON "
        f"-DGGML_CUDA_NCCL=OFF -DCMAKE_CUDA_ARCHITECTURES={bench.architecture}"
    )
    folder = bench.work / "wheel"
    environment = os.environ | {"CMAKE_ARGS": arguments}
    flags = ("--no-index", "--no-deps", "--no-build-isolation", "-C", f"build-dir={bench.work / 'build'}")
    command = [sys.executable, "-m", "pip", "wheel", "-q", *flags, "--wheel-dir", str(folder), str(bench.source)]
    subprocess.run(command, check=True, env=environment)
    return next(folder.glob("llama_cpp_python-*.whl"))


def _offloads() -> bool:
    code = "import llama_cpp, sys; sys.exit(not llama_cpp.llama_supports_gpu_offload())"
    return subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def machine(bench: Bench) -> Iterator[Row]:
    """Print the device that computes here. Raises RuntimeError where a GPU is wanted and llama.cpp finds none."""
    from glmserve.engine.llama.placement import probe  # noqa: PLC0415 - the llama.cpp that the step before has put there

    began = time.monotonic()
    facts = probe()
    yield Row("Python, llama-cpp-python", f"{platform.python_version()}, {facts.version}")
    spec = importlib.util.find_spec("llama_cpp")
    yield Row("GPU offload in this build", "yes" if facts.gpu_offload else "no")
    yield Row("llama.cpp loaded in", f"{time.monotonic() - began:.1f} s from {Path(str(spec and spec.origin)).parent}")
    yield Row("cores", f"{facts.cores.physical} of {facts.cores.logical} hardware threads")
    for device in facts.devices:
        yield Row(
            f"device {device.name}",
            f"{device.description}, {device.kind}, {device.free_bytes / 2**30:.1f} of "
            f"{device.total_bytes / 2**30:.1f} GiB free",
        )
    if used := gpu_memory():
        yield Row("memory in use before", used)
    if bench.on_gpu and not any(device.kind == "gpu" for device in facts.devices):
        raise RuntimeError("llama.cpp finds no GPU; --device cpu is the dry run")


def gpu_memory() -> str:
    """Return the memory that the driver says is in use; empty without a driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    query = [program, "--query-gpu=name,memory.used,driver_version", "--format=csv,noheader"]
    return subprocess.run(query, check=False, capture_output=True, text=True).stdout.strip()


def models(bench: Bench) -> Iterator[Row]:
    """Make the models, as nothing is downloaded."""
    for path, shape, quant in ((bench.exact, "tiny", QuantType.F16), (bench.model, bench.shape, bench.quant)):
        began = time.monotonic()
        if not path.exists():
            if shape == "tiny":
                convert_checkpoint(TINY, path, quant)
            else:
                make_widened(TINY, SHAPES[shape], path, quant)
        yield Row(path.name, f"{path.stat().st_size / 1e6:.0f} MB, made in {time.monotonic() - began:.1f} s")


def _run(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True)
