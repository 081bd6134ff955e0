"""A caller that hangs up frees what it had, long before its answer would end, on a real server."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.api import make_app, serve
from tests.support.scripted_engine import ScriptedEngine
from tests.support.slow_callers import connected, post, wait_until

CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4000}


@pytest.fixture
def engine() -> ScriptedEngine:
    """An engine that would answer for minutes."""
    return ScriptedEngine(endless=True, step_seconds=0.02, per_step=1)


@pytest.fixture
def url(engine: ScriptedEngine) -> Iterator[str]:
    with serve(make_app(engine)) as address:
        yield address


def wait_for(running: int, engine: ScriptedEngine) -> None:
    wait_until(lambda: engine.running == running, f"not {running} sequences run")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", CHAT),
        ("/v1/chat/completions", {**CHAT, "n": 3}),
        ("/v1/completions", {"prompt": "hi", "max_tokens": 4000, "n": 3}),
        ("/v1/responses", {"input": "hi", "max_output_tokens": 4000}),
        ("/v1/messages", CHAT),
        ("/chatglm", {"prompt": "hi", "max_length": 4000}),
    ],
)
def test_a_request_that_waits_for_its_whole_answer(
    url: str, engine: ScriptedEngine, path: str, body: dict[str, Any]
) -> None:
    with connected(url, post(body, path=path)):
        wait_for(body.get("n", 1), engine)
    wait_for(0, engine)
    assert not any(submission.finished for submission in engine.submissions)


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/responses", {"input": "hi", "max_output_tokens": 4000}), ("/v1/messages", CHAT)]
)
def test_a_stream_of_named_events_left_in_the_middle(
    url: str, engine: ScriptedEngine, path: str, body: dict[str, object]
) -> None:
    with httpx.stream("POST", url + path, json={**body, "stream": True}) as reply:
        lines = reply.iter_lines()
        assert next(lines).startswith("event: ")
        wait_for(1, engine)
    wait_for(0, engine)


@pytest.mark.parametrize("n", [1, 3])
def test_a_stream_left_in_the_middle(url: str, engine: ScriptedEngine, n: int) -> None:
    with httpx.stream("POST", f"{url}/v1/chat/completions", json={**CHAT, "n": n, "stream": True}) as reply:
        lines = reply.iter_lines()
        assert next(lines).startswith("data: ")
        wait_for(n, engine)
    wait_for(0, engine)


def test_a_stream_of_several_prompts_left_in_the_middle(url: str, engine: ScriptedEngine) -> None:
    body = {"prompt": ["a", "b"], "n": 2, "max_tokens": 4000, "stream": True}
    with httpx.stream("POST", f"{url}/v1/completions", json=body) as reply:
        lines = reply.iter_lines()
        assert next(lines).startswith("data: ")
        wait_for(4, engine)
    wait_for(0, engine)


def test_a_stream_whose_caller_never_read_a_byte(url: str, engine: ScriptedEngine) -> None:
    for _ in range(20):
        with connected(url, post({**CHAT, "stream": True})):
            pass
    # As they are read in turn, whoever came before has been seen, too.
    httpx.get(f"{url}/health")
    wait_for(0, engine)


def test_a_body_that_breaks_off_is_no_fault_of_the_server(
    url: str, engine: ScriptedEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """It was counted as a failure, with a traceback in the log."""
    with connected(url, b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{"):
        pass
    wait_until(lambda: "request_aborted_total{" in httpx.get(f"{url}/metrics").text, "it is not counted")
    assert "request_failed_total{" not in httpx.get(f"{url}/metrics").text
    assert not caplog.records
    assert not engine.submissions


def test_the_others_go_on(url: str, engine: ScriptedEngine) -> None:
    body = {**CHAT, "stream": True, "max_tokens": 60}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body) as stays:
        lines = stays.iter_lines()
        next(lines)
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body) as leaves:
            first = leaves.iter_lines()
            next(first)
        assert "data: [DONE]" in list(lines)
    wait_for(0, engine)
