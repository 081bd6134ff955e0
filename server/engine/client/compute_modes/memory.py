"""Remembers on the disk which compute mode works for a model file with this build of llama.cpp on this CPU."""

import hashlib
import importlib.util
import json
import logging
import platform
from dataclasses import dataclass
from pathlib import Path

from glmserve.engine.atomic_file import replace_file
from glmserve.engine.compute_mode import ComputeMode
from glmserve.engine.llama.fingerprint import identify_content

log = logging.getLogger(__name__)

_CPU_FIELDS = ("vendor_id", "model name", "flags", "Features", "CPU part")
_MOST_BYTES = 65536


@dataclass(frozen=True, slots=True)
class Remembered:
    """A mode that works where faster ones did not."""

    mode: ComputeMode
    reason: str
    """How the faster ones failed."""
    file: Path
    """Where that is kept; without it, the next start tries all modes again."""


class ModeMemory:
    """A small file for each model file, build and CPU. A fault here costs a few tries at the next start."""

    def __init__(self, folder: Path | None, model: Path) -> None:
        """Keep it in ``folder``, or nowhere where that is None."""
        self._folder = folder
        self._model = model

    def load(self) -> Remembered | None:
        """Return the remembered mode. Reads the disk."""
        try:
            path = self._path()
            if path is None or not path.is_file():
                return None
            with path.open("rb") as file:
                kept = json.loads(file.read(_MOST_BYTES))
            return Remembered(ComputeMode(kept["mode"]), str(kept["reason"]), path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("the remembered compute mode of %s cannot be read: %s", self._model.name, error)
            return None

    def save(self, mode: ComputeMode, reason: str) -> Path | None:
        """Remember ``mode``; return where, or None where it is not kept. Writes to the disk."""
        try:
            path = self._path()
            if path is None:
                return None
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            content = {"mode": mode.value, "reason": reason, "model": str(self._model)}
            replace_file(path, json.dumps(content, ensure_ascii=False, indent=2).encode())
        except OSError as error:
            log.warning("the compute mode of %s could not be saved: %s", self._model.name, error.strerror or error)
            return None
        return path

    def _path(self) -> Path | None:
        if self._folder is None:
            return None
        known_by = "\n".join((identify_content(self._model), build_identity(), cpu_identity()))
        return self._folder / f"{hashlib.sha256(known_by.encode()).hexdigest()[:32]}.json"


def build_identity() -> str:
    """Return text that changes when llama-cpp-python is installed again. Does not load it."""
    spec = importlib.util.find_spec("llama_cpp")
    folder = Path(spec.origin).parent / "lib" if spec and spec.origin else None
    if folder is None or not folder.is_dir():
        return "none"
    states = ((file.name, file.stat()) for file in sorted(folder.iterdir()))
    return " ".join(f"{name}:{status.st_size}:{status.st_mtime_ns}" for name, status in states)


def cpu_identity() -> str:
    """Return text that differs between CPUs with different instruction sets."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", "replace").split("\n\n", 1)[0]
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    lines = (line.partition(":") for line in text.splitlines())
    return "\n".join(f"{name.strip()}:{value}" for name, _, value in lines if name.strip() in _CPU_FIELDS)
