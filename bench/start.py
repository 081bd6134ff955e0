"""Measures a start: ``python -m bench.start [MODEL] [--work FOLDER] [--rounds 5]``.

From the command to the first answer, in seconds and in seconds of processor time of each process; then the engine is
killed, and the next answer timed. With ``--work``, the folder of bench.compare, llama-server starts on the same file
in turn. The file is read once before, so it comes from the page cache, and one start is not counted: it converts the
embedded model, measures kernels and compiles Python. A ratio or difference compares two neighbours of a round.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httpx

from bench.compare.build import build, remembered_cmake_args
from bench.compare.servers import LLAMA_SERVER, OURS, Kind, Running, free_port
from bench.served import engine_of
from bench.tables import markdown, spread, write_between

MARK = "a start"
_PATIENCE = 600.0
_POLL = 0.02
_BODY = {"messages": [{"role": "user", "content": "你好"}], "max_tokens": 1, "temperature": 0}


@dataclass(frozen=True, slots=True)
class Start:
    """One start of one server, in seconds from the command."""

    server: str
    listens: float
    """Until the port is open: this process is imported and set up."""
    ready: float
    """Until the model is loaded."""
    answered: float
    """Until the first answer is there."""
    processor: dict[str, float] = field(default_factory=dict)
    """Processor time of each process until then."""
    restarted: float = 0.0
    """From the death of the engine to the next answer; 0 where there is no engine."""


def main() -> None:
    """Print a line for each start, and the table."""
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        starts = list(measure(options, Path(folder)))
    text = table(starts)
    print("\n" + text)
    if options.page:
        write_between(options.page, MARK, text)
    if options.json:
        options.json.write_text(json.dumps([asdict(start) for start in starts], indent=1), encoding="utf-8")


def measure(options: argparse.Namespace, folder: Path) -> Iterator[Start]:
    """Start the servers in turn, round after round; yield each start but the first one of this server."""
    ours = [sys.executable, "-m", "glmserve.cli.main", "serve", *options.model, "--cache-dir", str(folder)]
    one_start(OURS, ours, folder)
    file = Path(options.model[0]) if options.model else next((folder / "converted").glob("*.gguf"))
    _read(file)
    kinds: list[tuple[Kind, list[str]]] = [(OURS, ours)]
    if options.work:
        server = build(options.work, None, remembered_cmake_args()).programs / "llama-server"
        kinds.append((LLAMA_SERVER, [str(server), "-m", str(file), "--no-ui"]))
    for _ in range(options.rounds):
        for kind, command in kinds:
            start = one_start(kind, command, folder)
            times = ", ".join(f"{name} {seconds:.2f}" for name, seconds in start.processor.items())
            print(f"{kind.name}: answered after {start.answered:.2f} s; processor: {times}", flush=True)
            yield start


def one_start(kind: Kind, command: Sequence[str], folder: Path) -> Start:
    """Start a server, ask it, kill its engine where it has one, ask again, and stop it."""
    began = time.monotonic()
    with _process(kind, command, folder) as (url, pid), httpx.Client(base_url=url, timeout=_PATIENCE) as http:
        listens = _until(lambda: _answers(http, kind.health) is not None) - began
        ready = _until(lambda: _answers(http, kind.health) is True) - began
        http.post("/v1/chat/completions", json=_BODY).raise_for_status()
        answered = time.monotonic() - began
        processor = Running(kind, url, pid).processor_seconds()
        restarted = 0.0
        if kind is OURS:
            killed = time.monotonic()
            os.kill(engine_of(pid), signal.SIGKILL)
            _until(lambda: _answers(http, kind.health) is False)
            http.post("/v1/chat/completions", json=_BODY).raise_for_status()
            restarted = time.monotonic() - killed
    return Start(kind.name, listens, ready, answered, processor, restarted)


@contextmanager
def _process(kind: Kind, command: Sequence[str], folder: Path) -> Iterator[tuple[str, int]]:
    port = free_port()
    # Python may write its compiled modules, as it may for users.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    log = folder / f"{kind.name}.log"
    with log.open("wb") as sink:
        process = subprocess.Popen([*command, "--port", str(port)], stdout=sink, stderr=sink, env=environment)
    try:
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        process.wait()


def _read(file: Path) -> None:
    """Have the system keep the file in memory."""
    with file.open("rb") as stream:
        while stream.read(1 << 24):
            pass


def _answers(http: httpx.Client, path: str) -> bool | None:
    """Return whether the server is ready, or None where it does not answer at all."""
    try:
        return http.get(path).is_success
    except httpx.HTTPError:
        return None


def _until(holds: Callable[[], bool]) -> float:
    """Wait for a condition and return the time. Raises SystemExit where it does not come."""
    deadline = time.monotonic() + _PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit("a server does not answer")
        time.sleep(_POLL)
    return time.monotonic()


def table(starts: Sequence[Start]) -> str:
    """Return a Markdown table: medians, in brackets the least and the most."""
    names = list(dict.fromkeys(start.server for start in starts))
    by_name = {name: [start for start in starts if start.server == name] for name in names}
    rows: list[tuple[str, Callable[[Start], float]]] = [
        ("the port is open, s", lambda start: start.listens),
        ("the model is loaded, s", lambda start: start.ready),
        ("the first answer, s", lambda start: start.answered),
        ("an answer after the engine's death, s", lambda start: start.restarted),
    ]
    roles = dict.fromkeys(role for start in starts for role in start.processor)
    rows += [(f"processor time, {role}, s", _role(role)) for role in roles]
    text = markdown(
        ("", *names),
        [(title, *(spread([value(start) for start in by_name[name]]) for name in names)) for title, value in rows],
    )
    if LLAMA_SERVER.name in by_name:
        pairs = zip(by_name[OURS.name], by_name[LLAMA_SERVER.name], strict=True)
        more = spread([ours.answered - theirs.answered for ours, theirs in pairs])
        text += f"\n\nTo the first answer, this server needs {more} s more than llama-server."
    return text


def _role(role: str) -> Callable[[Start], float]:
    return lambda start: start.processor.get(role, 0.0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="*", help="as for glmserve serve; the embedded model unless said")
    parser.add_argument("--work", type=Path, help="folder of bench.compare; without it, this server alone is started")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--page", type=Path, help=f"page with the mark <!-- {MARK} -->, such as docs/performance.md")
    parser.add_argument("--json", type=Path, help="file for the starts")
    return parser.parse_args()


if __name__ == "__main__":
    main()
