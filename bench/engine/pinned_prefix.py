"""Measures the gain of a pinned prompt: ``python -m bench.engine.pinned_prefix [MODEL]``.

A few-shot prompt of about 800 tokens is pinned, and a request that ends it with a line of its own is timed from being
sent to its first token: with the prompt in the cache, with another prompt of the same length that is not, right after
a restart of the server, and right after the engine process was killed. Starts the server three times; the embedded
model takes half a minute, a 6B on two cores some five.
"""

import argparse
import os
import signal
import statistics
import tempfile
import time
from pathlib import Path

import httpx

from bench.served import engine_of, running

_TOKENS = 800
_SHOTS = ("今天很高兴 -> 积极", "这里太吵了 -> 消极", "服务很周到 -> 积极", "等了两个小时 -> 消极", "味道不错 -> 积极")
_QUESTIONS = ("电影很好看", "路上堵车", "天气真好", "价格太贵", "音乐好听")
_PATIENCE = 600.0


def main() -> None:
    """Print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="", help="as for glmserve serve; the embedded model unless said")
    model = parser.parse_args().model
    with tempfile.TemporaryDirectory() as folder:
        measure([model] if model else [], Path(folder))


def measure(model: list[str], folder: Path) -> None:
    """Run all cases on ``model``, with everything that is written below ``folder``."""
    with running(model, folder) as (url, _):
        fixed, other = _prompt(url, "情感分类：\n"), _prompt(url, "判断语气：\n")
    pinned = folder / "few-shot.txt"
    pinned.write_text(fixed, "utf-8")
    arguments = [*model, "--pin", str(pinned)]
    started = time.monotonic()
    with running(arguments, folder) as (url, _):
        while not list((folder / "prefixes").glob("*.state")):
            time.sleep(0.05)
        print(f"first start, until the prompt is computed and saved: {time.monotonic() - started:.1f} s")
        warm = statistics.median(_ask(url, fixed + question) for question in _QUESTIONS)
        _report("cached", warm, warm)
        _report("not cached", _ask(url, other + _QUESTIONS[0]), warm)
    with running(arguments, folder) as (url, pid):
        _report("first request after a restart", _ask(url, fixed + "第一句"), warm)
        _report("cached, after a restart", statistics.median(_ask(url, fixed + q) for q in _QUESTIONS), warm)
        killed = time.monotonic()
        os.kill(engine_of(pid), signal.SIGKILL)
        while httpx.get(f"{url}/health").status_code == 200:
            time.sleep(0.01)
        while httpx.get(f"{url}/health").status_code != 200:
            time.sleep(0.01)
        print(f"until the killed engine is back: {time.monotonic() - killed:.1f} s")
        _report("first request after the engine was killed", _ask(url, fixed + "第二句"), warm)
    size = sum(file.stat().st_size for file in (folder / "prefixes").iterdir())
    print(f"size of the state: {size / 1e6:.1f} MB", flush=True)


def _report(case: str, seconds: float, warm: float) -> None:
    print(f"{case}: {seconds:.3f} s to the first token, {seconds / warm:.2f} times as long as cached", flush=True)


def _ask(url: str, text: str) -> float:
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": 1, "temperature": 0}
    with httpx.Client(timeout=_PATIENCE) as http:
        http.get(f"{url}/health")
        started = time.perf_counter()
        http.post(f"{url}/v1/chat/completions", json=body).raise_for_status()
        return time.perf_counter() - started


def _prompt(url: str, start: str) -> str:
    """Return few-shot text of enough tokens, as the server counts them."""
    few, more = _count(url, start + _lines(5)), _count(url, start + _lines(10))
    return start + _lines(round(5 + 5 * (_TOKENS - few) / (more - few)))


def _lines(count: int) -> str:
    return "".join(f"{_SHOTS[number % len(_SHOTS)]}\n" for number in range(count))


def _count(url: str, text: str) -> int:
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": 1}
    reply = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=_PATIENCE).raise_for_status()
    return int(reply.json()["usage"]["prompt_tokens"])


if __name__ == "__main__":
    main()
