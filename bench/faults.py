"""Measures the cost of a fault of the engine: ``python -m bench.faults [MODEL] [--only REGEX]``.

While four streams run, or none, something goes wrong in the engine process: by a signal, or on purpose (see
``tests/support/faults.py``). Printed is, as a table: how long until each of the streams had its last event, and
how long until a caller who asks again and again has an answer of one token.
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
from tests.support.faults import FAULTY_SERVER, VARIABLE

_PATIENCE = 600.0
_STREAMS = 4
_BAD_TOKEN = 9
"""Of a single byte, which no answer has."""
_ASK = {"messages": [{"role": "user", "content": "你好"}], "temperature": 0}


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of the engine process, and whether a request is running at that time."""

    name: str
    sent: signal.Signals | None = None
    """What the process gets; without one, a request with the bad token comes."""
    busy: bool = True
    plan: str = ""
    """The faults in the process."""
    next_plan: str = ""
    """The faults in the process after it."""


_BAD = f"@{_BAD_TOKEN}"
FAULTS = (
    Fault("killed, as by the system where memory is short", signal.SIGKILL),
    Fault("aborts, as llama.cpp does where an assertion fails", signal.SIGABRT),
    Fault("stopped, as in a hang", signal.SIGSTOP),
    Fault("stopped while it has nothing to do", signal.SIGSTOP, busy=False),
    Fault("killed, and the next one finds no memory", signal.SIGKILL, next_plan="load=oom"),
    Fault("killed, and the next one hangs as it loads", signal.SIGKILL, next_plan="load=hang"),
    Fault("aborts over a request", plan=f"decode{_BAD}=abort"),
    Fault("rejects the batch of a request (-1)", plan=f"decode{_BAD}=-1"),
    Fault("has no cells for a request (1)", plan=f"decode{_BAD}=1"),
    Fault("has no memory for a request", plan=f"decode{_BAD}=oom"),
    Fault("raises in the sampler of a request", plan=f"sample{_BAD}=error"),
)


def main() -> None:
    """Print a row for each fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="", help="as for glmserve serve; the embedded model unless said")
    parser.add_argument("--only", default="", help="regular expression: faults that are measured")
    parser.add_argument("--step-timeout", default="5", help="as for glmserve serve")
    parser.add_argument("--load-timeout", default="15", help="as for glmserve serve")
    options = parser.parse_args()
    limits = ["--step-timeout", options.step_timeout, "--load-timeout", options.load_timeout]
    print("| the engine process | streams have ended after | the next answer came after |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ[VARIABLE] = f"once {folder / 'plan'}"
        arguments = [*filter(None, [options.model]), *limits]
        with running(arguments, folder, FAULTY_SERVER) as (url, pid):
            for fault in FAULTS:
                if re.search(options.only, fault.name):
                    ended, answered = _measure(url, pid, fault, folder / "plan")
                    print(f"| {fault.name} | {ended} | {answered:.2f} s |", flush=True)
            log = (folder / "server.log").read_text("utf-8")
    print("\nThe log:")
    print("\n".join(re.findall(r"(?:the engine process of|a request failed|\S+ could not be loaded).*", log)))


def _measure(url: str, pid: int, fault: Fault, plan: Path) -> tuple[str, float]:
    """Return when the last stream ended, in words, and the seconds from the fault to the next answer."""
    if fault.plan:
        plan.write_text(fault.plan)
        os.kill(engine_of(pid), signal.SIGKILL)
    _answer(url)
    with ThreadPoolExecutor(_STREAMS + 1) as pool:
        streams = [pool.submit(_stream, url) for _ in range(_STREAMS if fault.busy else 0)]
        time.sleep(2.0)
        if fault.next_plan:
            plan.write_text(fault.next_plan)
        began = time.monotonic()
        if fault.sent is not None:
            os.kill(engine_of(pid), fault.sent)
        else:
            pool.submit(_ask_badly, url)
        answer = pool.submit(_answer, url) if not fault.busy else None
        ends = [stream.result() for stream in streams]
        answered = answer.result() if answer else _answer(url)
    if any(whole for _, whole in ends):
        return f"went on ({sum(whole for _, whole in ends)} of {_STREAMS} whole)", _answer_beside(url)
    return f"{max(at for at, _ in ends) - began:.2f} s" if ends else "–", answered - began


def _answer_beside(url: str) -> float:
    """Return how long an answer takes where nothing was lost."""
    began = time.monotonic()
    return _answer(url) - began


def _stream(url: str) -> tuple[float, bool]:
    """Return when a stream has ended, and whether it was whole."""
    body = {**_ASK, "stream": True, "max_tokens": 1900, "ignore_eos": True}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=_PATIENCE) as reply:
        events = [line.removeprefix("data: ") for line in reply.iter_lines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]", events[-1]
    last = json.loads(events[-2])
    assert "error" not in last or last["error"]["code"] == "engine_died", last
    return time.monotonic(), "error" not in last


def _ask_badly(url: str) -> None:
    body = {"prompt": [5, 6, 7, _BAD_TOKEN], "max_tokens": 1}
    httpx.post(f"{url}/v1/completions", json=body, timeout=_PATIENCE)


def _answer(url: str) -> float:
    """Ask until there is an answer; return when."""
    body = {**_ASK, "max_tokens": 1}
    while httpx.post(f"{url}/v1/chat/completions", json=body, timeout=_PATIENCE).status_code != 200:
        time.sleep(0.05)
    return time.monotonic()


if __name__ == "__main__":
    main()
