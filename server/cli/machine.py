"""Facts for ``glmserve doctor``: this build, this machine, the files, and the plan for a model."""

import importlib.metadata
import os
import platform
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from glmserve.engine.config import EngineConfig
from glmserve.engine.gguf.gguf_check import ModelFacts
from glmserve.engine.llama.cpu_topology import find_cores

if TYPE_CHECKING:
    from glmserve.engine.llama.placement import BuildFacts, Placement


@dataclass(frozen=True, slots=True)
class Versions:
    """Versions of relevant packages; "missing" where one is not installed."""

    glmserve: str
    python: str
    llama_cpp_python: str


@dataclass(frozen=True, slots=True)
class Machine:
    """Processors and memory of the machine."""

    system: str
    cores: int
    usable_cores: int
    """Cores that the container and the affinity mask leave."""
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class CachedFile:
    """A GGUF in the cache folder."""

    path: Path
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a model would go, as if it were alone; where it cannot, ``problem`` has the reason."""

    placement: "Placement | None" = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Probe:
    """llama.cpp's report; where it cannot be asked, ``problem`` has the reason."""

    build: "BuildFacts | None" = None
    placed: tuple[Placed, ...] = ()
    """For each of the models that were asked about, in their order."""
    problem: str = ""


def find_versions() -> Versions:
    """Return the installed versions."""
    return Versions(
        glmserve=_version("glmserve"),
        python=platform.python_version(),
        llama_cpp_python=_version("llama-cpp-python"),
    )


def find_machine() -> Machine:
    """Return the facts of this machine."""
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        cores=os.cpu_count() or 1,
        usable_cores=find_cores().logical,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    )


def find_cached(cache_dir: Path) -> tuple[CachedFile, ...]:
    """Return the GGUF files under ``cache_dir``."""
    return tuple(CachedFile(path, path.stat().st_size) for path in sorted(cache_dir.rglob("*.gguf")))


def probe(models: tuple[tuple[EngineConfig, ModelFacts], ...]) -> Probe:
    """Ask llama.cpp in a process of its own: a broken build, or one for another CPU, may end the asker."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(_probe, models).result()
        except BrokenProcessPool:
            return Probe(problem="llama.cpp ended the process that loaded it: it was built for another machine")
        except (ImportError, OSError, RuntimeError) as error:
            return Probe(problem=f"llama.cpp cannot be loaded: {error}")


def _probe(models: tuple[tuple[EngineConfig, ModelFacts], ...]) -> Probe:
    # Imported here, in the child process alone: the parent must survive a library that cannot be loaded.
    from glmserve.engine.llama.placement import probe as probe_build  # noqa: PLC0415

    build = probe_build()
    return Probe(build, tuple(_place(config, facts, build) for config, facts in models))


def _place(config: EngineConfig, facts: ModelFacts, build: "BuildFacts") -> Placed:
    from glmserve.engine.errors import ModelLoadError  # noqa: PLC0415
    from glmserve.engine.llama.placement import place  # noqa: PLC0415

    try:
        return Placed(place(config, facts, build))
    except ModelLoadError as error:
        return Placed(problem=str(error))


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def in_units(count: float) -> str:
    """Return a number of bytes as people read it."""
    power = min(max(int(count), 1).bit_length() - 1, 49) // 10
    return f"{count / 1024**power:.{1 if power else 0}f} {_UNITS[power]}"
