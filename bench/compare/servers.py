"""Starts each server on a file, and measures its cost while it runs."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from bench.compare.build import Built
from bench.memory import Memory, command_of, family, measure
from glmserve.bootstrap.engine_config import PROMPT_FOLDER

_START_SECONDS = 120.0
_STOP_SECONDS = 20.0

_LIBRARIES = ("LLAMA_CPP_LIB_PATH", "MTMD_CPP_LIB")
"""Where llama-cpp-python looks for llama.cpp."""

MODEL_NAME = "measured"


@dataclass(frozen=True, slots=True)
class Load:
    """The size of a server; the same for all of them."""

    model: Path
    parallel: int
    """Requests at once."""
    cells: int
    """Tokens of all requests together."""
    context: int
    """Tokens of one request."""
    threads: int
    apart: bool = False
    """llama-server keeps a cache for each slot rather than one for all, where that suits it better."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A server that can be measured."""

    name: str
    health: str = "/health"
    extra: Mapping[str, object] = field(default_factory=dict)
    """Fields that its requests need beyond ``ignore_eos`` for answers of an exact length."""


OURS = Kind("glmserve")
BASELINE = Kind("baseline")
"""Another installation of this server, such as an older commit's."""
LLAMA_SERVER = Kind("llama-server")
# It has no ignore_eos. 2 is the end token of ChatGLM2's vocabularies, the tiny model's too.
EXAMPLE = Kind("examples/server", "/healthz", {"logit_bias": {"2": -100.0}})
KINDS = (OURS, LLAMA_SERVER, EXAMPLE, BASELINE)


def command(kind: Kind, built: Built, load: Load, port: int) -> list[str]:
    """Return the command line of a server.

    All have one KV cache of the same size for all requests, a thread for each core, which is this server's own choice,
    and batches of 512 tokens at the most. llama-server keeps its own logical batch of 2048 and its prompt cache in
    memory, which are its defaults.
    """
    sizes = {"model": str(load.model), "port": str(port), "parallel": str(load.parallel), "threads": str(load.threads)}
    if kind in (OURS, BASELINE):
        program = [sys.executable, "-m", "glmserve.cli.main"] if kind is OURS else [str(built.baseline)]
        return [
            *(*program, "serve", sizes["model"], "--port", sizes["port"]),
            *("--model-name", MODEL_NAME, "--parallel", sizes["parallel"]),
            *("--context", str(load.context), "--cache-tokens", str(load.cells), "--batch-size", "512"),
        ]
    if kind is LLAMA_SERVER:
        return [
            *(str(built.programs / "llama-server"), "-m", sizes["model"], "--port", sizes["port"]),
            *("--alias", MODEL_NAME, "-np", sizes["parallel"], "-c", str(load.cells)),
            "--no-kv-unified" if load.apart else "--kv-unified",
            *("-t", sizes["threads"], "-ub", "512", "--no-ui"),
        ]
    config = built.work / "example-server.json"
    config.write_text(json.dumps(_example_config(load, port)), encoding="utf-8")
    return [str(built.example_python), str(built.example_script), "-C", str(config)]


def _example_config(load: Load, port: int) -> dict[str, object]:
    model = {
        "alias": MODEL_NAME,
        "path": str(load.model),
        "n_ctx": load.cells,
        "n_seq_max": load.parallel + 64,  # as many as this server has: the rest keep prefixes
        "n_batch": 512,
        "n_ubatch": 512,
        "threads": load.threads,
        "threads_batch": load.threads,
        "kv_unified": True,
        "store_logits": False,
        "use_mmap": True,
    }
    return {"server": {"host": "127.0.0.1", "port": port}, "model": model}


class Running:
    """A server that answers."""

    def __init__(self, kind: Kind, url: str, pid: int) -> None:
        """``pid`` is of the process that was started."""
        self.kind = kind
        self.url = url
        self._pid = pid

    def memory(self) -> list[Memory]:
        """Measure each of its processes."""
        return [measure(pid) for pid in family(self._pid)]

    def processor_seconds(self) -> dict[str, float]:
        """Return the processor time that each of its processes has taken, by the kind of process."""
        return {_role(self.kind, index, pid): _seconds(pid) for index, pid in enumerate(family(self._pid))}


def _environment(kind: Kind, built: Built) -> Mapping[str, str]:
    if kind not in (OURS, BASELINE):
        # The example needs libmtmd, which the wheel here is built without; llama-server's build has it.
        return dict.fromkeys(_LIBRARIES, str(built.programs))
    cache = built.work / f"{kind.name}-cache"
    # An interrupted run is repeated with the same prompts, which must not come from the disk then.
    shutil.rmtree(cache / PROMPT_FOLDER, ignore_errors=True)
    return {"GLMSERVE_CACHE_DIR": str(cache)}


@contextmanager
def running(kind: Kind, built: Built, load: Load) -> Iterator[Running]:
    """Start a server, wait until it answers, and stop it at the end.

    Raises:
        RuntimeError: it does not answer; its log says why.
    """
    port = free_port()
    log = built.work / f"{kind.name.replace('/', '-')}.log"
    with log.open("wb") as sink:
        environment = os.environ | _environment(kind, built)
        process = subprocess.Popen(
            command(kind, built, load, port), stdout=sink, stderr=subprocess.STDOUT, env=environment
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(url + kind.health, process, log)
        yield Running(kind, url, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(url).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"{url} does not answer; {log} says why")


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _role(kind: Kind, index: int, pid: int) -> str:
    if kind not in (OURS, BASELINE):
        return "all" if index == 0 else str(index)
    if index == 0:
        return "API"
    return "engine" if "spawn_main" in command_of(pid) else "other"


def _seconds(pid: int) -> float:
    """User and system time, fields 14 and 15 of proc_pid_stat(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
