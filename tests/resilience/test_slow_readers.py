"""Callers that stop reading: what waits for them is bounded, and in the end they are dropped."""

import json
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from glmserve.engine.client.output_stream import MOST_UNREAD, OutputStream, RequestOutputQueue
from glmserve.engine.errors import SlowConsumer
from glmserve.engine.messages import Embed, FinishReason, StepOutput
from glmserve.http.framing.uvicorn_protocol import bounded_protocol
from tests.conftest import running_server
from tests.support.api import make_app, serve
from tests.support.processes import wait_running
from tests.support.scripted_engine import ScriptedEngine
from tests.support.slow_callers import wait_until

pytestmark = pytest.mark.anyio

TWENTY = {"logprobs": True, "top_logprobs": 20}
"""Some 3 kB for each token: what a caller does not read soon fills what the system keeps for it."""


@contextmanager
def unread(url: str, path: str, body: Mapping[str, object]) -> Iterator[socket.socket]:
    """Ask, and read nothing of the reply."""
    host, port = url.removeprefix("http://").split(":")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((host, int(port)))
        content = json.dumps({"messages": [{"role": "user", "content": "你好"}], **body}).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
        connection.sendall(head.encode() + content)
        yield connection


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine(endless=True, per_step=1, context_length=10**6)


@pytest.fixture
def url(engine: ScriptedEngine) -> Iterator[str]:
    with serve(make_app(engine), bounded_protocol(1.0, lambda: False)) as address:
        yield address


def test_a_stream_that_nobody_reads_is_dropped_and_its_engine_slot_is_free(url: str, engine: ScriptedEngine) -> None:
    with unread(url, "/v1/chat/completions", {"stream": True, "max_tokens": 10**5, **TWENTY}):
        wait_until(lambda: engine.running, "it has not begun")
        wait_until(lambda: not engine.running, "the sequence still runs")
        assert not engine.submissions[0].finished
        assert httpx.get(f"{url}/health").status_code == 200


def test_a_stream_that_is_read_slowly_goes_on(url: str, engine: ScriptedEngine) -> None:
    with unread(url, "/v1/chat/completions", {"stream": True, "max_tokens": 10**5, **TWENTY}) as connection:
        until = time.monotonic() + 2.5
        while time.monotonic() < until:
            assert connection.recv(65536)
            time.sleep(0.05)
        assert engine.running == 1


def test_an_answer_that_is_whole_and_not_read_does_not_keep_its_connection(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with unread(url, "/v1/chat/completions", {"max_tokens": 3000, **TWENTY}) as connection:
        connection.recv(1, socket.MSG_PEEK)  # the answer is whole, and on its way
        wait_until(lambda: "read nothing for" in caplog.text, "it was not dropped")
        head, _, rest = b"".join(iter(lambda: connection.recv(65536), b"")).partition(b"\r\n\r\n")
    assert len(rest) < int(head.lower().split(b"content-length: ")[1].split()[0])


async def test_the_outputs_that_wait_for_a_reader_are_bounded() -> None:
    outcomes = RequestOutputQueue(Embed(1, ((1,),)))
    ends: list[bool] = []
    outcomes.on_end = ends.append
    stream = OutputStream(outcomes)
    put = [outcomes.put(StepOutput(1, (number,))) for number in range(MOST_UNREAD + 1)]
    assert put == [True] * MOST_UNREAD + [False]
    assert [(await anext(stream)).token_ids[0] for _ in range(MOST_UNREAD)] == list(range(MOST_UNREAD))
    with pytest.raises(SlowConsumer, match="read too slowly"):
        await anext(stream)
    assert ends == [True]


async def test_an_end_is_told_to_a_reader_who_is_far_behind() -> None:
    outcomes = RequestOutputQueue(Embed(1, ((1,),)))
    for number in range(MOST_UNREAD):
        outcomes.put(StepOutput(1, (number,), FinishReason.STOP if number == MOST_UNREAD - 1 else None))
    outputs = [output async for output in OutputStream(outcomes)]
    assert outputs[-1].finish_reason is FinishReason.STOP


def test_a_real_engine_does_not_go_on_for_a_reader_who_left(tiny_gguf: Path, tmp_path: Path) -> None:
    body = {"stream": True, "n": 8, "max_tokens": 1900, "ignore_eos": True, **TWENTY}
    with running_server(str(tiny_gguf), "--stall-seconds", "1", log=tmp_path / "log") as (url, server):
        with unread(url, "/v1/chat/completions", body):
            wait_running(url, 8)
            wait_running(url, 0)
        generated = httpx.get(f"{url}/health").json()["models"][0]["stats"]["generated_tokens"]
        assert server.poll() is None
    assert generated < 8 * 1900
    log = (tmp_path / "log").read_text("utf-8")
    assert "read nothing for 1 s (--stall-seconds) and was disconnected" in log
    assert "Traceback" not in log
