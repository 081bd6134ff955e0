"""More is asked for than can be computed: callers take turns, and what is refused is refused at once."""

import json
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPResponse
from pathlib import Path

import httpx
import pytest

from glmserve.bootstrap.app import ApiOptions
from glmserve.engine.errors import QueueFull
from glmserve.http.api_keys import ApiKeyStore, parse_keys
from glmserve.http.request_record import Limits
from tests.conftest import running_server
from tests.support.api import connect, make_app
from tests.support.scripted_engine import ScriptedEngine

CHAT = "/v1/chat/completions"
HELLO = {"messages": [{"role": "user", "content": "你好"}]}


@pytest.fixture(scope="module")
def url(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    options = ("--parallel", "2", "--max-waiting", "6", "--api-key", "many:key-of-many", "--api-key", "one:key-of-one")
    log = tmp_path_factory.mktemp("overload") / "log"
    with running_server(str(tiny_gguf), *options, log=log) as (address, _):
        yield address


@contextmanager
def asking(url: str, key: str, max_tokens: int) -> Iterator[socket.socket]:
    """Ask, and give up at the end of the block."""
    host, port = url.removeprefix("http://").split(":")
    content = json.dumps({**HELLO, "max_tokens": max_tokens, "ignore_eos": True}).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nx-api-key: key-of-{key}\r\nContent-Length: {len(content)}\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(head.encode() + content)
        yield connection


def test_one_caller_cannot_fill_the_queue_for_another_one(url: str) -> None:
    with ExitStack() as stack:
        many = [stack.enter_context(asking(url, "many", 500)) for _ in range(30)]
        refused = HTTPResponse(select.select(many, [], [], 30)[0][0])
        refused.begin()
        said = json.loads(refused.read())
        with asking(url, "one", 1) as one:
            assert one.recv(65536).startswith(b"HTTP/1.1 200 ")
        waiting = len(many) - len(select.select(many, [], [], 0)[0])
    assert refused.status == 429
    assert said["error"]["code"] == "queue_full"
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert waiting, "the one who came last waited for all others"


@pytest.mark.anyio
async def test_the_engine_knows_callers_by_their_keys_or_else_by_their_addresses() -> None:
    engine = ScriptedEngine()
    options = ApiOptions(keys=ApiKeyStore(parse_keys(["ann:secret-of-ann"], Limits(), "test")), request_timeout=30)
    async with connect(make_app(engine, options)) as client:
        assert (await client.post(CHAT, json=HELLO, headers={"x-api-key": "secret-of-ann"})).status_code == 200
    app = make_app(engine)
    async with connect(app):
        for address in ("192.0.2.7", "2001:db8:1:2:3::4", "::ffff:192.0.2.8", "nonsense"):
            transport = httpx.ASGITransport(app, client=(address, 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
                assert (await client.post(CHAT, json=HELLO)).status_code == 200
    callers = [submission.caller for submission in engine.submissions]
    assert [caller.id for caller in callers] == ["ann", "192.0.2.7", "2001:db8:1:2::/64", "192.0.2.8", "nonsense"]
    assert 20 < callers[0].timeout_s <= 30 < callers[1].timeout_s


@pytest.mark.anyio
async def test_where_all_queues_are_full_a_request_is_refused_before_it_is_read() -> None:
    """Reading it first cost more than refusing it, and the cores that did so had others to answer."""
    engine = ScriptedEngine(is_full=QueueFull(64, retry_after=7))
    async with connect(make_app(engine)) as client:
        for path in (CHAT, "/v1/completions", "/v1/responses", "/v1/messages", "/chatglm", "/v1/embeddings"):
            refused = await client.post(path, content=b"no JSON")
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "7"), path
        assert (await client.get("/v1/models")).status_code == 200
        assert 'reason="queue_full"' in (await client.get("/metrics")).text
