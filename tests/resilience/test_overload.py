"""More is asked for than can be computed: callers take turns, and what is refused is refused at once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import httpx
import pytest

from server.app import ApiOptions
from server.http.keys import KeyRing, parse_keys
from server.request_record import Limits
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


def ask(client: httpx.Client, key: str, max_tokens: int) -> httpx.Response:
    body = {**HELLO, "max_tokens": max_tokens, "ignore_eos": True}
    return client.post(CHAT, json=body, headers={"x-api-key": f"key-of-{key}"})


def test_one_caller_cannot_fill_the_queue_for_another_one(url: str) -> None:
    with ThreadPoolExecutor(30) as pool, httpx.Client(base_url=url, timeout=60) as client:
        many = [pool.submit(ask, client, "many", 300) for _ in range(30)]
        refused = next(reply for done in as_completed(many) if (reply := done.result()).status_code == 429)
        one = ask(client, "one", 1)
        left = sum(not future.done() for future in many)
        statuses = [future.result().status_code for future in many]
    assert refused.json()["error"]["code"] == "queue_full"
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert one.status_code == 200
    assert left, "the one who came last waited for all others"
    assert set(statuses) == {200, 429}
    assert statuses.count(200) >= 2 + 6


@pytest.mark.anyio
async def test_the_engine_knows_callers_by_their_keys_or_else_by_their_addresses() -> None:
    engine = ScriptedEngine()
    options = ApiOptions(keys=KeyRing(parse_keys(["ann:secret-of-ann"], Limits(), "test")), request_timeout=30)
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
    assert 20 < callers[0].patience <= 30 < callers[1].patience
