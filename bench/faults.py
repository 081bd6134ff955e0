"""Measures what a fault of the engine costs: ``python -m bench.faults [MODEL]``.

While four streams run, or none, something is done to the engine process. Printed is, as a table: how long until each
of the streams had its last event, and how long until a caller who asks again and again has an answer of one token.
"""

import argparse
import json
import os
import re
import signal
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench.served import engine_of, running

_PATIENCE = 600.0
_STREAMS = 4
_ASK = {"messages": [{"role": "user", "content": "你好"}]}


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done to the engine process, and whether somebody is being answered then."""

    name: str
    signal: signal.Signals
    busy: bool


FAULTS = (
    Fault("killed", signal.SIGKILL, busy=True),
    Fault("aborts, as llama.cpp does where an assertion fails", signal.SIGABRT, busy=True),
    Fault("stopped, as in a hang", signal.SIGSTOP, busy=True),
    Fault("stopped while it has nothing to do", signal.SIGSTOP, busy=False),
)


def main() -> None:
    """Print a row for each fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="", help="as for glmserve serve; the embedded model unless said")
    parser.add_argument("--step-timeout", type=float, default=5.0, help="as for glmserve serve")
    options = parser.parse_args()
    arguments = [*filter(None, [options.model]), "--step-timeout", str(options.step_timeout)]
    print("| the engine process is | its streams have ended after | the next answer came after |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, running(arguments, Path(folder)) as (url, pid):
        for fault in FAULTS:
            ended, answered = _measure(url, pid, fault)
            print(f"| {fault.name} | {f'{ended:.2f} s' if fault.busy else '–'} | {answered:.2f} s |", flush=True)
        log = (Path(folder) / "server.log").read_text("utf-8")
    print("\nThe log:")
    print("\n".join(re.findall(r"the engine process of .*", log)))


def _measure(url: str, pid: int, fault: Fault) -> tuple[float, float]:
    """Return the seconds from the fault to the end of the last stream, and to the next answer."""
    _answer(url)
    with ThreadPoolExecutor(_STREAMS) as pool:
        streams = [pool.submit(_stream, url) for _ in range(_STREAMS if fault.busy else 0)]
        while _running(url) < len(streams):
            time.sleep(0.01)
        time.sleep(1.0)
        began = time.monotonic()
        os.kill(engine_of(pid), fault.signal)
        answer = pool.submit(_answer, url) if not fault.busy else None
        ended = max((stream.result() for stream in streams), default=began)
        answered = answer.result() if answer else _answer(url)
    return ended - began, answered - began


def _stream(url: str) -> float:
    """Return when a stream that would go on has ended, which is with an error."""
    body = {**_ASK, "stream": True, "max_tokens": 1900, "ignore_eos": True}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=_PATIENCE) as reply:
        events = [line.removeprefix("data: ") for line in reply.iter_lines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]", events[-1]
    assert json.loads(events[-2])["error"]["code"] == "engine_died", events[-2]
    return time.monotonic()


def _answer(url: str) -> float:
    """Ask until there is an answer; return when."""
    while (
        httpx.post(f"{url}/v1/chat/completions", json={**_ASK, "max_tokens": 1}, timeout=_PATIENCE).status_code != 200
    ):
        time.sleep(0.05)
    return time.monotonic()


def _running(url: str) -> int:
    return int(httpx.get(f"{url}/health").json()["models"][0]["stats"]["running"])


if __name__ == "__main__":
    main()
