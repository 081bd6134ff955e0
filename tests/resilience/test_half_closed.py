"""Callers who close their sending side after a request: they are answered, and those who are gone are noticed."""

import asyncio
import socket
import struct
import time
from collections.abc import Iterator

import pytest
import uvicorn

from tests.support.api import make_app, serve
from tests.support.raw_http import Recorder, exchange, recording, replies
from tests.support.scripted_engine import ScriptedEngine
from tests.support.slow_callers import HELLO, connected, post, wait_until

SLOW = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
PARTS = b"GET /parts HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, Recorder]]:
    """A real server on each of the two event loops that one may run on."""
    patch = pytest.MonkeyPatch()
    if request.param == "asyncio":
        patch.setattr(uvicorn.Config, "get_loop_factory", lambda _: asyncio.SelectorEventLoop)
    with recording() as found:
        yield found
    patch.undo()


@pytest.mark.parametrize("requests", [[SLOW], [PARTS], [SLOW, PARTS, SLOW], [b"POST /slow HTTP/1.0\r\n\r\n"]])
def test_who_sends_no_more_gets_all_his_answers(server: tuple[str, Recorder], requests: list[bytes]) -> None:
    answers = replies(exchange(server[0], b"".join(requests), ends=True))
    assert [answer.json()["path"].encode() for answer in answers] == [one.split()[1] for one in requests]


def test_what_is_cut_off_is_not_answered_but_what_is_before_it_is(server: tuple[str, Recorder]) -> None:
    url, recorder = server
    for rest in (b"GET /fir", b"POST /first HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhel"):
        (answer,) = replies(exchange(url, SLOW + rest, ends=True))
        assert answer.json()["path"] == "/slow"
        assert exchange(url, rest, ends=True) == b""
    assert recorder.seen.count("POST /first") == 1


def test_who_is_gone_is_noticed_before_the_answer(server: tuple[str, Recorder]) -> None:
    """Both look the same at first: the sending side is closed."""
    url, recorder = server
    recorder.gone.clear()
    with connected(url, SLOW.replace(b"/slow", b"/slow?60")):
        pass
    wait_until(lambda: recorder.gone == ["/slow"], "nobody noticed")


def test_who_resets_while_he_waits_is_noticed(server: tuple[str, Recorder]) -> None:
    url, recorder = server
    recorder.gone.clear()
    with connected(url, SLOW.replace(b"/slow", b"/slow?60")) as connection:
        connection.shutdown(socket.SHUT_WR)
        time.sleep(0.4)
        assert not recorder.gone
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_until(lambda: recorder.gone == ["/slow"], "nobody noticed")


def test_a_chat_is_answered_whole_and_streamed() -> None:
    engine = ScriptedEngine(step_seconds=0.02, per_step=1)
    with serve(make_app(engine)) as url:
        (whole,) = replies(exchange(url, post(HELLO), ends=True))
        (streamed,) = replies(exchange(url, post({**HELLO, "stream": True}), ends=True))
    assert whole.status == 200
    assert whole.json()["choices"][0]["finish_reason"] == "stop"
    assert streamed.body.endswith(b"data: [DONE]\n\n")
