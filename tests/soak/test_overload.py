"""Minutes of more than a server can do: it holds no more at the end than at the beginning, and answers."""

import asyncio
import resource
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx

from bench.overload import Asker, capacity, offered
from tests.conftest import running_server
from tests.support.load.vitals import Vitals, family, growth, measure
from tests.support.slow_callers import HELLO, STREAM, connected, post, wait_until

ROUNDS = 12
CONNECTIONS = 3000
GROWTH = 8 * 2**20
"""Bytes that later rounds may hold more than those before, by medians of quarters."""


def check_flat(rounds: list[dict[str, Vitals]]) -> None:
    for name in rounds[0]:
        held = [each[name] for each in rounds]
        print(name, held, flush=True)
        assert growth([each.memory for each in held]) <= GROWTH, name
        assert growth([each.files for each in held]) <= 0, name
        assert growth([each.threads for each in held]) <= 1, name


def held_by(pid: int) -> dict[str, Vitals]:
    return {name: measure(each) for each, name in family(pid).items()}


def test_thousands_of_connections_come_and_go(tiny_gguf: Path, tmp_path: Path) -> None:
    """A quarter each are idle, do not end a head, do not end a body, and do not read."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    kinds = (b"", b"POST /chatglm HTTP/1.1\r\nHost:", post(HELLO, 10**6), post({**STREAM, "max_tokens": 5}))
    rounds = []
    with running_server(str(tiny_gguf), log=tmp_path / "log") as (url, process), httpx.Client(timeout=60) as client:
        for _ in range(ROUNDS):
            with ExitStack() as stack:
                lines = [stack.enter_context(connected(url, kinds[n % len(kinds)])) for n in range(CONNECTIONS)]
                for _ in range(5):
                    for line in lines[1::4] + lines[2::4]:
                        with suppress(OSError):
                            line.send(b" ")
                    time.sleep(1)
                    assert client.get(f"{url}/health").status_code == 200
            wait_until(lambda: measure(process.pid).files < 100, "connections are still open")
            rounds.append(held_by(process.pid))
        answer = client.post(f"{url}/v1/chat/completions", json={**HELLO, "max_tokens": 2})
        assert answer.status_code == 200
    check_flat(rounds)
    assert "Traceback" not in (tmp_path / "log").read_text("utf-8")


def test_ten_times_what_can_be_answered(tiny_gguf: Path, tmp_path: Path) -> None:
    keys = ("--api-key", "many:key-of-many", "--api-key", "one:key-of-one")
    rounds, statuses = [], Counter[int]()
    with running_server(str(tiny_gguf), *keys, log=tmp_path / "log") as (url, process):
        asker = Asker(url)
        most = asyncio.run(capacity(asker, 10))
        for _ in range(ROUNDS):
            replies = asyncio.run(offered(asker, 10 * most, 15))
            statuses.update(reply.status for reply in replies)
            rounds.append(held_by(process.pid))
    print(statuses)
    assert set(statuses) == {200, 429}
    check_flat(rounds)
    assert "Traceback" not in (tmp_path / "log").read_text("utf-8")
