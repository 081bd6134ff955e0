"""Cost of a Ray cluster: time to the first token and for each token after it, beside `glmserve serve`.

python -m bench.cluster [--rounds 20] [--tokens 100] [--concurrency 1]

Needs the extra ray. Both run at once, with the embedded model and one thread each, and are asked in turn.
"""

import argparse
import contextlib
import json
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench.served import GLMSERVE, running

_DEPLOY_SECONDS = 300.0
_FLAGS = ("--threads", "1", "--no-speculation", "--no-prompt-disk")


@dataclass(frozen=True, slots=True)
class Answer:
    """Times of one streamed answer, in seconds."""

    first: float
    """To the first token."""
    each: float
    """For each token after it."""


def ask(url: str, number: int, tokens: int) -> Answer:
    """Stream an answer to a prompt of its own."""
    body = {
        "prompt": f"{number}：今天天气很好",
        "max_tokens": tokens,
        "ignore_eos": True,
        "stream": True,
        "temperature": 0,
    }
    began = time.perf_counter()
    first = last = 0.0
    with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=300) as reply:
        for line in reply.iter_lines():
            if line.startswith("data: {") and json.loads(line[6:])["choices"]:
                last = time.perf_counter()
                first = first or last
    return Answer(first - began, (last - first) / (tokens - 1))


@contextlib.contextmanager
def clustered(folder: Path) -> Iterator[str]:
    """Run the application on a cluster of this machine; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = int(one.getsockname()[1])
    command = [*GLMSERVE, "cluster", *_FLAGS, "--port", str(port), "--cache-dir", str(folder)]
    url = f"http://127.0.0.1:{port}"
    with (folder / "cluster.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            _wait_ready(process, url, folder / "cluster.log")
            yield url
        finally:
            process.terminate()
            process.wait()


def _wait_ready(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    until = time.monotonic() + _DEPLOY_SECONDS
    while process.poll() is None and time.monotonic() < until:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/health", timeout=10).status_code == 200:
                return
        time.sleep(0.5)
    raise SystemExit(log.read_text("utf-8", errors="replace")[-3000:])


def measure(urls: dict[str, str], rounds: int, tokens: int, concurrency: int) -> dict[str, list[Answer]]:
    """Ask each server in turn, in another order each round."""
    answers: dict[str, list[Answer]] = {name: [] for name in urls}
    with ThreadPoolExecutor(concurrency) as pool:
        for number in range(rounds):
            names = list(urls) if number % 2 else list(reversed(urls))
            for name in names:
                asked = [pool.submit(ask, urls[name], number * concurrency + i, tokens) for i in range(concurrency)]
                answers[name] += [one.result() for one in asked]
    return answers


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--concurrency", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        (folder / "serve").mkdir()
        alone, _ = stack.enter_context(running([*_FLAGS], folder / "serve"))
        urls = {"serve": alone, "cluster": stack.enter_context(clustered(folder))}
        measure(urls, 1, given.tokens, given.concurrency)  # unmeasured
        answers = measure(urls, given.rounds, given.tokens, given.concurrency)
    for server, each in answers.items():
        first, token = (_spread(times) for times in zip(*((a.first, a.each) for a in each), strict=True))
        print(f"{server:8} first token {first} ms, each further token {token} ms")


def _spread(seconds: Sequence[float]) -> str:
    """Return the median and the quartiles in milliseconds."""
    low, middle, high = (1e3 * each for each in statistics.quantiles(seconds, n=4, method="inclusive"))
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
