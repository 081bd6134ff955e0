"""Records of a model on this machine, each for one build of llama.cpp and one CPU."""

import hashlib
import importlib.util
import logging
import platform
from dataclasses import dataclass
from pathlib import Path

from glmserve.engine.config import Device, EngineConfig
from glmserve.engine.files import file_fingerprint, read_json, write_json

log = logging.getLogger(__name__)

LARGE_BYTES = 256 * 2**20
"""Size of a file from which on the time of a measurement or a self-test matters."""
GPU_DRIVER = Path("/dev/nvidiactl")
"""There where the driver of a GPU is loaded."""
_VERSIONS = {"self-test-": "two sequences", "kernels-": "median of the gains"}
"""The last change of each kind of record. Older records do not hold."""
_CPU_FIELDS = ("vendor_id", "model name", "flags", "Features", "CPU part")


def record_path(folder: Path, kind: str, *known_by: str) -> Path:
    """Return the file of a record: another one for another kind, other facts, another build or another CPU."""
    facts = "\n".join((_VERSIONS.get(kind, ""), *known_by, build_fingerprint(), cpu_fingerprint()))
    return folder / f"{kind}{hashlib.sha256(facts.encode()).hexdigest()[:32]}.json"


@dataclass(frozen=True, slots=True)
class SelfTestRecord:
    """Whether a large file has passed the self-test on this CPU, so that later loads need not repeat it.

    The self-test of a 6B model takes half of the time of its load. A record holds for the file with its time of
    change, the compute mode, and the settings that select kernels. On a GPU the test is short and is always made.
    """

    model: str
    path: Path | None
    """None where nothing is kept."""

    @classmethod
    def of(cls, config: EngineConfig) -> "SelfTestRecord":
        """Return the record of an engine. Reads the disk; before the load, as a file may be replaced after."""
        model = config.model_path
        try:
            if config.mode_dir is None or (config.device is not Device.CPU and GPU_DRIVER.exists()):
                return cls(model.name, None)
            if model.stat().st_size < LARGE_BYTES:
                return cls(model.name, None)
            settings = (config.compute_mode.value, config.kv_type.value, config.flash_attn.value)
            path = record_path(config.mode_dir, "self-test-", file_fingerprint(model), *settings)
            return cls(model.name, path)
        except OSError:
            return cls(model.name, None)  # the engine process says why it cannot read the file

    @property
    def passed(self) -> bool:
        """Whether the file has passed. Reads the disk."""
        try:
            return self.path is not None and self.path.is_file() and read_json(self.path)["passed"] is True
        except (OSError, ValueError, KeyError) as error:
            log.warning("the record of the self-test of %s cannot be read: %s", self.model, error)
            return False

    def save(self) -> None:
        """Record that the file has passed. Writes to the disk; a fault costs a self-test at the next load."""
        try:
            if self.path is not None:
                write_json(self.path, {"passed": True, "model": self.model})
        except OSError as error:
            log.warning("the self-test of %s could not be recorded: %s", self.model, error.strerror or error)


def build_fingerprint() -> str:
    """Return text that changes when llama-cpp-python is installed again. Does not load it."""
    spec = importlib.util.find_spec("llama_cpp")
    folder = Path(spec.origin).parent / "lib" if spec and spec.origin else None
    if folder is None or not folder.is_dir():
        return "none"
    states = ((file.name, file.stat()) for file in sorted(folder.iterdir()))
    return " ".join(f"{name}:{status.st_size}:{status.st_mtime_ns}" for name, status in states)


def cpu_fingerprint() -> str:
    """Return text that differs between CPUs with different instruction sets."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", "replace").split("\n\n", 1)[0]
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    lines = (line.partition(":") for line in text.splitlines())
    return "\n".join(f"{name.strip()}:{value}" for name, _, value in lines if name.strip() in _CPU_FIELDS)
