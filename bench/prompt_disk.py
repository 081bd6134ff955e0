"""Measures the loss of a conversation at a restart: ``python -m bench.prompt_disk [MODEL]``.

A conversation of about 2,000 tokens goes on three times on a warm server. The server is killed with SIGKILL and started
again, answers one short request, and the conversation goes on. Its time to the first token is compared with the warm
one, in each of three rounds. The time to read the state from the disk is in the server's log. Beside each round stands
what the same prompt takes where nothing was saved. ``--streams`` measures a running answer while prompts are saved.
"""

import argparse
import json
import os
import re
import signal
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bench.served import running

_PATIENCE = 900.0
_ROUNDS = 3
_TOKENS = 2000
_SAVED = r"(?m)^glmserve:prompt_disk_saved_total\S* (\S+)"
Messages = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: seconds to its first token and in all, its text, and the tokens of its prompt."""

    first: float
    whole: float
    text: str
    prompt: int
    cached: int


def main() -> None:
    """Print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="", help="as for glmserve serve; the embedded model unless said")
    parser.add_argument("--streams", action="store_true", help="measure a running answer while prompts are saved")
    arguments = parser.parse_args()
    server = [*([arguments.model] if arguments.model else []), "--context", "4096"]
    with tempfile.TemporaryDirectory() as folder:
        if arguments.streams:
            beside_a_stream(server, Path(folder))
            return
        for number in range(_ROUNDS):
            one_round(server, Path(folder), number)


def one_round(server: Sequence[str], folder: Path, number: int) -> None:
    """Compare a conversation before and after a kill, and without saved prompts."""
    messages = _long_question(number)
    with running([*server], folder) as (url, pid):
        warm = []
        for turn in range(4):
            warm.append(_go_on(url, messages))
            _wait_until_saved(url, turn + 1)
        warm = warm[1:]
        os.kill(pid, signal.SIGKILL)
    with running([*server], folder) as (url, _):
        _go_on(url, [{"role": "user", "content": "你好"}])
        after = _go_on(url, list(messages))
    log = (folder / "server.log").read_text("utf-8")
    read = sum(float(seconds) for seconds in re.findall(r"were read from the disk in ([\d.]+) s", log))
    with running([*server, "--no-prompt-disk"], folder) as (url, _):
        _go_on(url, [{"role": "user", "content": "你好"}])
        lost = _go_on(url, list(messages))
    usual = statistics.median(answer.first for answer in warm)
    size = sum(file.stat().st_size for file in (folder / "prompts").glob("*.prompt"))
    spread = f"{min(answer.first for answer in warm):.3f} to {max(answer.first for answer in warm):.3f}"
    print(
        f"{after.prompt} tokens, {after.cached} cached: warm {usual:.3f} s ({spread}), restarted {after.first:.3f} s "
        f"of which reading {read:.3f} s, {(after.first - read) / usual:.2f} times as long without it; "
        f"not saved {lost.first:.2f} s; {size / 1e6:.1f} MB on the disk",
        flush=True,
    )


def beside_a_stream(server: Sequence[str], folder: Path) -> None:
    """Time an answer while other prompts come, are offloaded and saved; and the same without saving."""
    for number in range(2 * _ROUNDS):
        flags = () if number % 2 else ("--no-prompt-disk",)
        with running([*server, *flags], folder) as (url, _), httpx.Client(base_url=url, timeout=_PATIENCE) as http:
            for other in range(6):
                _ask(url, _long_question(100 * number + other, 800), 1)
            answer = _ask(url, [{"role": "user", "content": "写一个很长的故事"}], 400, ignore_eos=True)
            saved = re.findall(_SAVED, http.get("/metrics").text)
        print(
            f"{'saving' if not flags else 'not saving'}: 400 tokens in {answer.whole:.2f} s, saved {saved}", flush=True
        )


def _go_on(url: str, messages: Messages) -> Answer:
    answer = _ask(url, messages, 24)
    messages += [{"role": "assistant", "content": answer.text}, {"role": "user", "content": "请继续说下去。"}]
    return answer


def _ask(url: str, messages: Messages, max_tokens: int, **fields: object) -> Answer:
    body = {
        "messages": messages, "max_tokens": max_tokens, "temperature": 0, "stream": True,
        "stream_options": {"include_usage": True}, **fields,
    }  # fmt: skip
    started = time.perf_counter()
    first, text = 0.0, ""
    usage: dict[str, Any] = {}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=_PATIENCE) as reply:
        reply.raise_for_status()
        for line in reply.iter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line.removeprefix("data: "))
            usage = event.get("usage") or usage
            piece = "".join(choice["delta"].get("content") or "" for choice in event["choices"])
            if piece and not first:
                first = time.perf_counter() - started
            text += piece
    details = usage["prompt_tokens_details"]
    return Answer(first, time.perf_counter() - started, text, usage["prompt_tokens"], details["cached_tokens"])


def _wait_until_saved(url: str, count: int) -> None:
    while True:
        found = re.search(_SAVED, httpx.get(f"{url}/metrics").text)
        if found and float(found[1]) >= count:
            return
        time.sleep(0.05)


def _long_question(number: int, tokens: int = _TOKENS) -> Messages:
    lines = (
        f"第{number}号单子第{line}项：去{line * 7 % 100}号楼买{line * 13 % 50}本书。" for line in range(tokens // 18)
    )
    return [{"role": "user", "content": "请记住：" + "".join(lines)}]


if __name__ == "__main__":
    main()
