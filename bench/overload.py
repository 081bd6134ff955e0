"""Measures a server that receives more requests than it can compute: ``python -m bench.overload [MODEL]``.

Three parts, each on a fresh server on this machine, bounded in requests and in time:

``load``      Requests come at a fixed rate, independent of the replies: 1, 2, 5 and 10 times as many as can be
              answered. How many are answered, how long those wait, how soon the others are rejected, and the memory.
``fairness``  One caller keeps a hundred requests going; another asks for one after the other.
``prompts``   Short prompts, one after the other, beside long ones that are computed all the time.

Requests are not streamed and answers have a fixed length; each has a connection of its own. The client shares
the processor with the server, so what is measured is a little less than what a machine of its own would see.
"""

import argparse
import asyncio
import json
import random
import re
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from bench.memory import family, measure
from bench.served import running

FACTORS = (1.0, 2.0, 5.0, 10.0)
_MANY = 100
_MOST_REQUESTS = 6000
_TOKENS = 32
_LONG_WORDS = 400
_CHATS = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer key-of-{key}\r\n"
_QUEUED = re.compile(rb'"queue_ms":\s*([0-9.]+)')
_RETRY_AFTER = re.compile(rb"(?i)retry-after: (\d+)")


@dataclass(frozen=True, slots=True)
class Reply:
    """Result of one request; times are in seconds."""

    status: int
    began: float
    took: float
    queued: float
    retry_after: int


class Asker:
    """Asks a server for answers of a fixed length, each question another one."""

    def __init__(self, url: str, tokens: int = _TOKENS) -> None:
        """Ask the server at ``url`` for answers of ``tokens`` tokens."""
        self._tokens = tokens
        host, port = url.removeprefix("http://").split(":")
        self._address = (host, int(port))
        self._number = 0

    async def ask(self, key: str = "many", tokens: int = 0, words: int = 8) -> Reply:
        """Return the result of a request with a prompt of ``words`` words."""
        self._number += 1
        text = f"{self._number} " + " ".join(str((self._number * 7919 + place) % 9973) for place in range(words))
        body = {"messages": [{"role": "user", "content": text}], "timings": True}
        content = json.dumps({**body, "max_tokens": tokens or self._tokens, "ignore_eos": True}).encode()
        head = f"{_CHATS.format(key=key)}Content-Length: {len(content)}\r\n\r\n".encode()
        began = time.monotonic()
        reader, writer = await asyncio.open_connection(*self._address)
        try:
            writer.write(head + content)
            raw = await reader.read(-1)
        finally:
            writer.close()
        took = time.monotonic() - began
        queued, retry_after = _QUEUED.search(raw), _RETRY_AFTER.search(raw)
        return Reply(
            int(raw[9:12]),
            began,
            took,
            float(queued[1]) / 1000 if queued else 0.0,
            int(retry_after[1]) if retry_after else 0,
        )


async def crowd(asker: Asker, seconds: float) -> list[float]:
    """Return when answers ended, in order, while 16 asked without a pause."""
    ends: list[float] = []
    until = time.monotonic() + seconds

    async def client() -> None:
        while time.monotonic() < until:
            reply = await asker.ask()
            ends.append(reply.began + reply.took)

    await asyncio.gather(*(client() for _ in range(16)))
    return sorted(ends)


async def capacity(asker: Asker, seconds: float) -> float:
    """Return how many answers there are in a second while 16 ask without a pause."""
    ends = await crowd(asker, seconds)
    half = ends[len(ends) // 4 : -16]  # without the first ones, and those that had the machine for themselves
    return (len(half) - 1) / (half[-1] - half[0])


async def offered(asker: Asker, rate: float, seconds: float) -> list[Reply]:
    """Return the replies to requests at random times, ``rate`` a second."""
    chance = random.Random(1)
    asking: list[asyncio.Task[Reply]] = []
    began = due = time.monotonic()
    while due < began + seconds and len(asking) < _MOST_REQUESTS:
        await asyncio.sleep(due - time.monotonic())
        asking.append(asyncio.create_task(asker.ask()))
        due += chance.expovariate(rate)
    return list(await asyncio.gather(*asking))


async def measure_load(url: str, pid: int, seconds: float, tokens: int) -> None:
    """Print a line for each offered load."""
    asker = Asker(url, tokens)
    await crowd(asker, 3.0)
    most = await capacity(asker, seconds)
    print(f"Capacity: {most:.1f} answers a second.\n")
    print(
        "| offered | requests | answered a second | of capacity | waited, p50 | p99 | rejected | after, p50 | p99 "
        "| Retry-After | memory |\n|---|---|---|---|---|---|---|---|---|---|---|"
    )
    for factor in FACTORS:
        replies = await offered(asker, factor * most, seconds)
        print(f"| {factor:g} times | {_load_row(replies, most)} | {resident(pid):.0f} MiB |", flush=True)


def _load_row(replies: Sequence[Reply], most: float) -> str:
    answered = [reply for reply in replies if reply.status == 200]
    rejected = [reply for reply in replies if reply.status == 429]
    others = [reply.status for reply in replies if reply.status not in (200, 429)]
    assert not others, others
    begun, ended = min(r.began for r in replies), max(r.began for r in replies)
    rate = sum(reply.began + reply.took <= ended for reply in answered) / (ended - begun)
    waits, rejections = [reply.queued for reply in answered], [reply.took for reply in rejected]
    after = sorted(reply.retry_after for reply in rejected)
    return (
        f"{len(replies)} | {rate:.1f} | {rate / most:.0%} | {_ms(waits, 0.5)} | {_ms(waits, 0.99)} | "
        f"{len(rejected) / len(replies):.0%} | {_ms(rejections, 0.5)} | {_ms(rejections, 0.99)} | "
        f"{f'{after[0]} to {after[-1]} s' if after else '–'}"
    )


async def measure_fairness(url: str, seconds: float) -> None:
    """Print how long the answers of one caller take alone, and beside another one with a hundred requests."""
    asker = Asker(url)
    await crowd(asker, 3.0)
    print("| one request after the other | answers | p50 | p99 | rejected |\n|---|---|---|---|---|")
    print(_row("of a caller who is alone", await _after_each_other(seconds / 2, lambda: asker.ask("one"))))
    many: list[Reply] = []
    async with _kept_going(_MANY, lambda: _patient(asker, many)):
        await asyncio.sleep(1.0)
        one = await _after_each_other(seconds, lambda: asker.ask("one"))
    print(_row(f"beside another caller's {_MANY}", one))
    print(_row(f"of these {_MANY}", many))


async def measure_prompts(url: str, seconds: float) -> None:
    """Print how long the first tokens of short prompts take alone, and beside long prompts."""
    asker = Asker(url)
    await crowd(asker, 3.0)
    print("| one short prompt after the other, a token of answer each | answers | p50 | p99 | rejected |")
    print("|---|---|---|---|---|")
    print(_row("alone", await _after_each_other(seconds / 2, lambda: asker.ask("one", 1))))
    long: list[Reply] = []
    async with _kept_going(2, lambda: _noted(asker.ask("many", 1, _LONG_WORDS), long)):
        await asyncio.sleep(0.5)
        short = await _after_each_other(seconds, lambda: asker.ask("one", 1))
    print(_row("beside two long prompts", short))
    print(_row("these long ones", long))


async def _after_each_other(seconds: float, ask: Callable[[], Awaitable[Reply]]) -> list[Reply]:
    until = time.monotonic() + seconds
    replies = []
    while time.monotonic() < until:
        replies.append(await ask())
        await asyncio.sleep(0.05)
    return replies


class _kept_going:  # noqa: N801
    """Tasks that repeat an action while a block runs."""

    def __init__(self, number: int, once: Callable[[], Awaitable[None]]) -> None:
        self._number = number
        self._once = once
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> None:
        self._tasks = [asyncio.create_task(self._for_ever()) for _ in range(self._number)]

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _for_ever(self) -> None:
        while True:
            await self._once()


async def _noted(asking: Awaitable[Reply], replies: list[Reply]) -> None:
    replies.append(await asking)


async def _patient(asker: Asker, replies: list[Reply]) -> None:
    """Ask, and wait as long as one is told to."""
    reply = await asker.ask("many")
    replies.append(reply)
    await asyncio.sleep(reply.retry_after)


def _row(name: str, replies: Sequence[Reply]) -> str:
    times = [reply.took for reply in replies if reply.status == 200]
    rejected = sum(reply.status == 429 for reply in replies)
    return f"| {name} | {len(times)} | {_ms(times, 0.5)} | {_ms(times, 0.99)} | {rejected} |"


def _ms(seconds: Sequence[float], share: float) -> str:
    if not seconds:
        return "–"
    return f"{sorted(seconds)[min(len(seconds) - 1, int(share * len(seconds)))] * 1000:.0f} ms"


def resident(pid: int) -> float:
    """Return the memory of the server and its engine in MiB, shared pages shared out."""
    return sum(measure(each).proportional for each in family(pid)) / 2**20


@contextmanager
def server(model: str) -> Iterator[tuple[str, int]]:
    """Yield the address and process id of a server with two keys."""
    keys = ["--api-key", "many:key-of-many", "--api-key", "one:key-of-one"]
    with tempfile.TemporaryDirectory() as folder, running([*filter(None, [model]), *keys], Path(folder)) as found:
        yield found


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="", help="as for glmserve serve; the embedded model unless said")
    parser.add_argument("--part", choices=["load", "fairness", "prompts"], help="only this one")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--tokens", type=int, default=_TOKENS, help="of each answer, under load")
    options = parser.parse_args()
    for part in [options.part] if options.part else ["load", "fairness", "prompts"]:
        with server(options.model) as (url, pid):
            if part == "load":
                uvloop.run(measure_load(url, pid, options.seconds, options.tokens))
            elif part == "fairness":
                uvloop.run(measure_fairness(url, options.seconds))
            else:
                uvloop.run(measure_prompts(url, options.seconds))
        print()


if __name__ == "__main__":
    main()
