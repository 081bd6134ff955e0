"""Every reply says which request it answers, and so does every line of the log that is about one."""

import logging

import httpx
import pytest

from glmserve.http.middleware.cross_origin import EXPOSED
from glmserve.observability.logging import RequestIdFilter
from tests.support.scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
HELLO = {"messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/health", None),
        ("POST", CHAT, HELLO),
        ("POST", CHAT, {**HELLO, "stream": True}),
        ("POST", CHAT, {}),
        ("POST", "/chatglm", {}),
        ("GET", "/nowhere", None),
        ("PUT", CHAT, None),
    ],
)
async def test_the_id_of_the_caller_comes_back_on_every_reply(
    http: httpx.AsyncClient, method: str, path: str, body: object
) -> None:
    reply = await http.request(method, path, json=body, headers={"X-Request-Id": "trace-1/a:b"})
    assert reply.headers["x-request-id"] == "trace-1/a:b"
    assert int(reply.headers["openai-processing-ms"]) >= 0


@pytest.mark.parametrize("given", ["", "two words", "x" * 129, "a\tb", "é", "a;b", "<script>"])
async def test_an_id_that_is_absent_or_odd_is_replaced(http: httpx.AsyncClient, given: str) -> None:
    replies = [await http.get("/health", headers={b"X-Request-Id": given.encode()}) for _ in range(2)]
    ids = {reply.headers["x-request-id"] for reply in replies}
    assert len(ids) == 2
    assert all(one.startswith("req_") for one in ids)


async def test_a_fault_of_the_server_is_logged_under_the_id_of_the_reply(
    http: httpx.AsyncClient, engine: ScriptedEngine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.handler.addFilter(RequestIdFilter())
    caplog.handler.setFormatter(logging.Formatter("[%(request_id)s] %(message)s"))
    engine.reject = RuntimeError("secret")
    for path, body in ((CHAT, HELLO), ("/chatglm", {"prompt": "x"})):
        reply = await http.post(path, json=body)
        assert reply.status_code == 500
        assert f"[{reply.headers['x-request-id']}] unhandled error in POST {path}" in caplog.text


async def test_two_requests_at_once_keep_their_ids_apart(
    http: httpx.AsyncClient, engine: ScriptedEngine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.handler.addFilter(RequestIdFilter())
    caplog.handler.setFormatter(logging.Formatter("[%(request_id)s] %(message)s"))
    engine.fail, engine.fail_choice = RuntimeError("in the middle"), 1
    async with http.stream("POST", CHAT, json={**HELLO, "stream": True}, headers={"X-Request-Id": "well"}) as well:
        ill = await http.post(CHAT, json={**HELLO, "stream": True}, headers={"X-Request-Id": "ill"})
        assert "internal_error" in ill.text
        assert "error" not in "".join([line async for line in well.aiter_lines()])
    assert "[ill] unhandled error in a stream" in caplog.text
    assert "[well]" not in caplog.text


async def test_a_page_of_this_machine_may_ask_and_send_the_headers_of_the_clients(http: httpx.AsyncClient) -> None:
    wanted = "authorization, content-type, x-api-key, anthropic-version, x-stainless-os, x-stainless-new, x-request-id"
    preflight = {
        "Origin": "http://localhost:3000",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": wanted,
    }
    reply = await http.options(CHAT, headers=preflight)
    assert reply.status_code == 200
    assert reply.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert reply.headers["access-control-allow-headers"] == wanted
    assert "POST" in reply.headers["access-control-allow-methods"]
    assert "access-control-allow-credentials" not in reply.headers


@pytest.mark.parametrize("body", [HELLO, {}, {**HELLO, "stream": True}])
async def test_a_page_may_read_the_reply_and_its_headers_errors_too(http: httpx.AsyncClient, body: object) -> None:
    reply = await http.post(CHAT, json=body, headers={"Origin": "http://localhost:3000"})
    assert reply.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert "access-control-allow-credentials" not in reply.headers
    assert set(EXPOSED) <= set(reply.headers["access-control-expose-headers"].split(", "))


async def test_a_fault_of_the_server_can_be_read_by_a_page(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    engine.reject = RuntimeError("secret")
    reply = await http.post(CHAT, json=HELLO, headers={"Origin": "http://localhost:3000"})
    assert reply.status_code == 500
    assert reply.headers["access-control-allow-origin"] == "http://localhost:3000"
