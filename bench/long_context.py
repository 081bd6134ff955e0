"""Measures long contexts: ``python -m bench.long_context MODEL.gguf --work FOLDER [--page docs/performance.md]``.

For each depth N and round: this server reads a prompt of N tokens while eight other sequences are cached, with
``--flash-attn auto off`` in both modes; then llama-bench reads one with ``-d N``. They generate in turn: llama-bench is
stopped in the beginning of each of its answers while the server gives one, as a busy machine's speed changes by a half
within seconds. Nothing is drafted, as llama-bench drafts nothing. Results gather in FOLDER/long-context.jsonl, so a run
that was cut short goes on where it was; ``--limit SECONDS`` begins nothing after that time and ends with exit code 75.

A depth of ``--target`` that is not measured is extrapolated, and says so: the time of a prompt is ``a N + b N²``, that
of a token ``c + d N``, fitted to at least two measured depths. That is what attention over N cells and matrices of a
fixed size cost, but it has not been seen at that depth. For a 6B on two cores::

    python -m bench.long_context 6b.gguf --work FOLDER --depth 1024 2048 4096 --target 8192 32000 --rounds 1

A file with some of the layers (``bench.synthetic.make_widened --layers``) takes less time, with nearly the same ratios:
only the output matrix weighs more in a generated token.
"""

import argparse
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import numpy as np

from bench.compare.build import build, remembered_cmake_args
from bench.served import running
from bench.tables import markdown, spread, write_between

OURS, OFF, FLOOR = "glmserve", "glmserve --flash-attn off", "llama-bench"
_MODES = {"auto": OURS, "off": OFF}
"""This server by its ``--flash-attn``."""
MARK = "long contexts"
ANSWER = 32
"""Tokens that are generated at each depth."""
OTHERS = 8
_PATIENCE = 7200.0
_LEFT = 75
_DOCUMENTS = (8_000, 30_000)
"""Characters of the documents in the second table."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One server at one depth."""

    model: str
    server: str
    depth: int
    round: int
    prompt: float
    """Seconds for the prompt."""
    tokens: Sequence[float]
    """Seconds for a token behind it, in each answer."""
    cells: int = 0
    """Cells in use after the prompt, with the cells of other sequences."""

    @property
    def token(self) -> float:
        """Seconds for a token, in the mean of the answers."""
        return sum(self.tokens) / len(self.tokens)


class Server:
    """This server with a prompt in its cache."""

    def __init__(self, http: httpx.Client, prompt: Sequence[int]) -> None:
        """Let it compute the prompt."""
        self._http = http
        self._prompt = prompt
        self.tokens: list[float] = []
        """Seconds for a token of each answer."""
        self.prompt_seconds = _seconds(http, prompt, 1)
        self.cells = http.get("/health").json()["models"][0]["stats"]["cells_used"]

    def answer(self) -> None:
        """Ask twice, with one token and with some: the difference is theirs alone."""
        again, answer = (_seconds(self._http, self._prompt, tokens) for tokens in (1, 1 + ANSWER))
        self.tokens.append((answer - again) / ANSWER)


def main() -> None:
    """Measure the rest, print the tables, and write them into the page."""
    options = _options()
    programs = build(options.work, None, remembered_cmake_args()).programs
    file = options.work / "long-context.jsonl"
    left = run_all(options, programs, file)
    text = "\n\n".join(reports(load(file), options.target or options.depth, options.tokens_per_character))
    print("\n" + text)
    if options.page:
        write_between(options.page, MARK, text)
    if left:
        print(f"{left} measurements are left: run the same command again")
        raise SystemExit(_LEFT)


def run_all(options: argparse.Namespace, programs: Path, file: Path) -> int:
    """Measure all depths and rounds that ``file`` lacks; return how many ``--limit`` left."""
    known = {(unit.model, unit.depth, unit.round) for unit in load(file)}
    numbers = range(1, options.rounds + 1)
    tasks = [(n, depth) for n in numbers for depth in options.depth if (options.model.name, depth, n) not in known]
    started = time.monotonic()
    for done, (number, depth) in enumerate(tasks):
        if time.monotonic() - started > options.limit:
            return len(tasks) - done
        units = list(measure(options, programs, depth, number))
        with file.open("a", encoding="utf-8") as lines:
            lines.writelines(json.dumps(asdict(unit)) + "\n" for unit in units)
        for unit in units:
            rates = f"{depth / unit.prompt:.1f} and {1 / unit.token:.2f} tokens/s"
            print(f"{unit.server}, {depth} tokens: {rates}", flush=True)
    return 0


def measure(options: argparse.Namespace, programs: Path, depth: int, number: int) -> Iterator[Measured]:
    """Yield the times of each server at a depth."""
    name = options.model.name
    with ExitStack() as stack:
        servers = {
            _MODES[mode]: stack.enter_context(_serving(options.model, depth, number, options.cached, mode))
            for mode in options.flash_attn
        }
        command = llama_bench(programs, options.model, depth, options.threads, options.answers)
        prompt, tokens = floor(command, [server.answer for server in servers.values()])
        for title, server in servers.items():
            yield Measured(name, title, depth, number, server.prompt_seconds, server.tokens, server.cells)
        yield Measured(name, FLOOR, depth, number, prompt, tokens)


@contextmanager
def _serving(model: Path, depth: int, number: int, cached: int, mode: str) -> Iterator[Server]:
    """Start a server that has eight other sequences of ``cached`` tokens."""
    size = depth + ANSWER + 64
    arguments = [str(model), "--context", str(size), "--parallel", str(OTHERS), "--no-speculation"]
    arguments += ["--cache-tokens", str(size + OTHERS * (cached + 64)), "--no-prompt-disk", "--flash-attn", mode]
    with (
        tempfile.TemporaryDirectory() as folder,
        running(arguments, Path(folder)) as (url, _),
        httpx.Client(base_url=url, timeout=_PATIENCE) as http,
    ):
        for other in range(OTHERS):
            _seconds(http, _ids(1000 * number + other, cached), 1)
        yield Server(http, _ids(1000 * number + 999, depth))


def llama_bench(programs: Path, model: Path, depth: int, threads: int, answers: int) -> list[str]:
    """Return the command that gives ``answers`` behind ``depth`` tokens, which are computed once.

    Its warm-up would compute them once more: 20 minutes for 8,192 tokens of a 6B.
    """
    command = [str(programs / "llama-bench"), "-m", str(model), "-t", str(threads), "-r", str(answers), "-o", "json"]
    return [*command, "--no-warmup", "--progress", "-p", "0", "-n", str(ANSWER), "-d", str(depth)]


def floor(command: Sequence[str], meanwhile: Sequence[Callable[[], None]]) -> tuple[float, list[float]]:
    """Return the seconds of llama-bench for the prompt, and for a token of each answer.

    It reports its answers only: the prompt is timed by its lines of progress. It is stopped during each answer while
    all of ``meanwhile`` are done, and what they take is not counted.
    """
    pauses: list[float] = []
    begun: dict[str, float] = {}
    with (
        tempfile.TemporaryFile("w+") as out,
        subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, text=True) as process,
    ):
        assert process.stderr is not None
        for line in process.stderr:
            # "llama-bench: benchmark 1/1: depth run 1/5", then "... generation run 1/5"
            if " run " not in line:
                continue
            phase = line.split(":")[-1].split()[0]
            begun.setdefault(phase, time.monotonic())
            if phase == "generation":
                pauses.append(_paused(process, meanwhile))
        if process.wait():
            raise subprocess.CalledProcessError(process.returncode, command)
        out.seek(0)
        answers = json.load(out)[0]["samples_ns"]
    tokens = [(taken / 1e9 - pause) / ANSWER for taken, pause in zip(answers, pauses, strict=True)]
    return begun["generation"] - begun["depth"], tokens


def _paused(process: subprocess.Popen[str], meanwhile: Sequence[Callable[[], None]]) -> float:
    """Return the seconds for which the process was stopped, by the clock of llama-bench, which may be set meanwhile."""
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    started = time.time()
    try:
        for work in meanwhile:
            work()
    finally:
        process.send_signal(signal.SIGCONT)
    return time.time() - started


def _ids(seed: int, count: int) -> list[int]:
    """Return a prompt that begins like no other one: ids of ordinary tokens in each of the models."""
    return [200 + seed % 50] + [100 + (seed * 61 + i * 7919) % 150 for i in range(count - 1)]


def _seconds(http: httpx.Client, ids: Sequence[int], tokens: int) -> float:
    """Return the seconds until an answer of N tokens is complete."""
    body = {"prompt": ids, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
    started = time.monotonic()
    reply = http.post("/v1/completions", json=body)
    if not reply.is_success or reply.json()["usage"]["completion_tokens"] != tokens:
        raise SystemExit(f"the server did not answer as expected: {reply.text[:500]}")
    return time.monotonic() - started


def load(file: Path) -> list[Measured]:
    """Return the measurements; none where there is no file."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [Measured(**json.loads(line)) for line in lines]


def fit(points: Mapping[int, float], powers: tuple[int, int]) -> tuple[float, float] | None:
    """Return the factors of two powers of the depth that meet the points best, relative to each; None below two."""
    if len(points) < 2:
        return None
    depths = np.array(list(points), dtype=float)
    seconds = np.array(list(points.values()))
    rows = np.stack([depths ** powers[0], depths ** powers[1]], axis=1) / seconds[:, None]
    factors = np.linalg.lstsq(rows, np.ones(len(points)), rcond=None)[0]
    return max(0.0, float(factors[0])), max(0.0, float(factors[1]))


def medians(units: Iterable[Measured], server: str, what: str) -> dict[int, float]:
    """Return the median seconds of a server by depth; ``what`` is prompt or token."""
    found: dict[int, list[float]] = {}
    for unit in units:
        if unit.server == server:
            found.setdefault(unit.depth, []).append(getattr(unit, what))
    return {depth: float(np.median(values)) for depth, values in sorted(found.items())}


def reports(units: Sequence[Measured], targets: Sequence[int], tokens_per_character: float) -> Iterator[str]:
    """Yield the tables of each model that was measured."""
    for model in dict.fromkeys(unit.model for unit in units):
        yield f"**{model}**"
        yield report([unit for unit in units if unit.model == model], targets, tokens_per_character)


def report(units: Sequence[Measured], targets: Sequence[int], tokens_per_character: float) -> str:
    """Return both tables: rates against llama-bench, and the cost of documents."""
    head = (
        "tokens",
        "server",
        "prompt, tokens/s",
        "of llama-bench",
        "generated, tokens/s",
        "of llama-bench",
        "cells in use",
    )
    rows = [row for server in (OURS, OFF) for row in _rows(units, server, targets)]
    rate = f"{tokens_per_character:g} tokens a character"
    documents = markdown(
        (f"a document of ({rate})", "tokens", "s to the first token", "s for an answer of 200 tokens behind it"),
        [_document_row(units, count, round(count * tokens_per_character)) for count in _DOCUMENTS],
    )
    return f"{markdown(head, rows)}\n\n{documents}"


def _rows(units: Sequence[Measured], server: str, targets: Sequence[int]) -> list[list[str]]:
    measured = sorted({unit.depth for unit in units if unit.server == server})
    rows = [_measured_row(units, server, depth) for depth in measured]
    if measured:
        rows += [_fitted_row(units, server, depth) for depth in targets if depth not in measured]
    return rows


def _measured_row(units: Sequence[Measured], server: str, depth: int) -> list[str]:
    cells = [f"{depth:,}", server]
    own = [unit for unit in units if unit.server == server and unit.depth == depth]
    peers = {unit.round: unit for unit in units if unit.server == FLOOR and unit.depth == depth}
    pairs = [(peers[unit.round], unit) for unit in own if unit.round in peers]
    cells.append(spread([depth / unit.prompt for unit in own], 1))
    cells.append(spread([peer.prompt / unit.prompt for peer, unit in pairs]))
    cells.append(spread([1 / unit.token for unit in own], 1))
    cells.append(spread([a / b for peer, unit in pairs for a, b in zip(peer.tokens, unit.tokens, strict=True)]))
    return [*cells, f"{max(unit.cells for unit in own):,}"]


def _fitted_row(units: Sequence[Measured], server: str, depth: int) -> list[str]:
    cells = [f"{depth:,} (extrapolated)", server]
    for what, powers, tokens in (("prompt", (1, 2), depth), ("token", (0, 1), 1)):
        seconds, floors = (_at(medians(units, which, what), powers, depth) for which in (server, FLOOR))
        cells += [spread([tokens / seconds if seconds else 0], 1), spread([floors / seconds if seconds else 0])]
    return [*cells, "–"]


def _document_row(units: Sequence[Measured], characters: int, tokens: int) -> list[str]:
    first = _at(medians(units, OURS, "prompt"), (1, 2), tokens)
    each = _at(medians(units, OURS, "token"), (0, 1), tokens)
    beyond = tokens > max((unit.depth for unit in units if unit.server == OURS), default=0)
    title = f"{characters:,} characters{' (extrapolated)' if beyond else ''}"
    return [title, f"{tokens:,}", spread([first], 0), spread([200 * each], 0)]


def _at(points: Mapping[int, float], powers: tuple[int, int], depth: int) -> float:
    """Return the seconds at a depth: as measured there, or by the fit; 0 where there are too few points."""
    if depth in points:
        return points[depth]
    factors = fit(points, powers)
    return 0.0 if factors is None else factors[0] * depth ** powers[0] + factors[1] * depth ** powers[1]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder of bench.compare, for programs and results")
    parser.add_argument("--depth", type=int, nargs="+", default=[2048, 8192, 32000])
    parser.add_argument("--target", type=int, nargs="*", default=(), help="depths that are told, measured or not")
    parser.add_argument(
        "--flash-attn",
        nargs="+",
        choices=_MODES,
        default=["auto"],
        help="modes of this server, in rounds that have none yet",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--answers", type=int, default=8, help="of 32 tokens each, at each depth and round")
    parser.add_argument("--cached", type=int, default=512, help="tokens of each of the eight cached sequences")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--limit", type=float, default=float("inf"), help="seconds after which nothing is begun")
    parser.add_argument("--tokens-per-character", type=float, default=0.65, help="of Chinese text, in the vocabulary")
    parser.add_argument("--page", type=Path, help=f"page with the mark <!-- {MARK} -->, such as docs/performance.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
