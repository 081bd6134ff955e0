"""Without keys, pages of the web get nothing from a server on this machine, and programs notice nothing of that."""

import http.client
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager

import httpx
import pytest

from glmserve.bootstrap.app import ApiOptions
from glmserve.http.api_keys import ApiKeyStore, parse_keys
from glmserve.http.origins import host_of, is_local_host, is_loopback_host
from glmserve.http.request_record import Limits
from tests.support.api import connect, make_app, serve
from tests.support.scripted_engine import ScriptedEngine

CHAT = "/v1/chat/completions"
HELLO = json.dumps({"messages": [{"role": "user", "content": "hi"}]}).encode()
EVIL = "https://evil.example"
LOCAL = ApiOptions(on_loopback=True, allowed_hosts=("llm.example",))

PROGRAMS: tuple[Mapping[str, str], ...] = (
    {},
    {"Host": "localhost:8000"},
    {"Host": "LOCALHOST."},
    {"Host": "127.0.0.1"},
    {"Host": "127.8.9.1:80"},
    {"Host": "[::1]:8000"},
    {"Host": "[::ffff:127.0.0.1]"},
    {"Host": "0.0.0.0:8000"},
    {"Host": "app.localhost:3000"},
    {"Host": "llm.example"},
    {"Host": "LLM.example:443"},
    {"Content-Type": "text/plain"},
    {"Content-Type": "application/x-www-form-urlencoded"},
)
"""What is sent by who is no page, or is one that may."""

OWN_PAGES: tuple[Mapping[str, str], ...] = (
    {"Origin": "http://localhost:5173", "Sec-Fetch-Site": "same-site"},
    {"Origin": "http://127.0.0.1:3000", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "https://[::1]:3000"},
    {"Origin": "http://localhost:8000", "Host": "localhost:8000", "Sec-Fetch-Site": "same-origin"},
    {"Origin": "https://llm.example", "Host": "llm.example", "Sec-Fetch-Site": "same-origin"},
    {"Origin": "http://llm.example:8080", "Host": "llm.example:8080"},
    # A proxy that calls the server by its address, before the chat page: with and without TLS.
    {"Origin": "https://any.example", "Host": "127.0.0.1:8000", "Sec-Fetch-Site": "same-origin"},
    {"Origin": "http://llm.example", "Host": "127.0.0.1:8000"},
)

FOREIGN_PAGES: tuple[Mapping[str, str], ...] = (
    {"Origin": EVIL},
    {"Origin": EVIL, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Content-Type": "text/plain"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": EVIL, "Sec-Fetch-Site": "none"},
    {"Origin": "null"},
    {"Origin": "null", "Sec-Fetch-Site": "cross-site"},
    {"Origin": ""},
    {"Origin": "file://"},
    {"Origin": "http://localhost.evil.example"},
    {"Origin": "http://127.0.0.1.evil.example:8000"},
    {"Origin": "http://localhost:x@evil.example"},
    {"Origin": "http://192.168.1.9:3000"},
    {"Origin": "chrome-extension://abcdefghijklmnop"},
    {"Origin": "https://not-llm.example"},
)

FOREIGN_NAMES: tuple[Mapping[str, str], ...] = (
    {"Host": "evil.example:8000"},
    {"Host": "evil.example:8000", "Origin": "http://evil.example:8000", "Sec-Fetch-Site": "same-origin"},
    {"Host": "localhost.evil.example"},
    {"Host": "127.0.0.1.evil.example"},
    {"Host": "192.168.1.9:8000"},
    {"Host": "not-llm.example"},
)


@contextmanager
def served(options: ApiOptions) -> Iterator[tuple[str, ScriptedEngine]]:
    engine = ScriptedEngine()
    with serve(make_app(engine, options)) as url:
        yield url.removeprefix("http://"), engine


@pytest.fixture(scope="module")
def local() -> Iterator[tuple[str, ScriptedEngine]]:
    with served(LOCAL) as running:
        yield running


def ask(address: str, headers: Mapping[str, str], method: str = "POST", path: str = CHAT) -> tuple[int, bytes]:
    """Over a real connection; nothing is sent but what is in ``headers`` and what HTTP needs."""
    connection = http.client.HTTPConnection(address, timeout=20)
    try:
        connection.request(method, path, HELLO if method == "POST" else None, dict(headers))
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


@pytest.mark.parametrize("headers", [*PROGRAMS, *OWN_PAGES], ids=str)
def test_who_may_call_is_answered(local: tuple[str, ScriptedEngine], headers: Mapping[str, str]) -> None:
    assert ask(local[0], headers)[0] == 200


@pytest.mark.parametrize("headers", [*FOREIGN_PAGES, *FOREIGN_NAMES], ids=str)
@pytest.mark.parametrize("path", [CHAT, "/", "/chatglm", "/v1/messages", "/v1/responses", "/nowhere"])
def test_a_page_of_the_web_gets_nothing_computed(
    local: tuple[str, ScriptedEngine], headers: Mapping[str, str], path: str
) -> None:
    address, engine = local
    before = len(engine.submissions)
    status, body = ask(address, headers, path=path)
    assert status == 403, body
    assert len(engine.submissions) == before, "it was computed all the same"


@pytest.mark.parametrize("headers", FOREIGN_NAMES, ids=str)
@pytest.mark.parametrize("path", ["/health", "/", "/v1/models", "/metrics", "/openapi.json", "/v1/responses/resp_1"])
def test_a_name_that_was_bound_to_this_machine_reads_nothing(
    local: tuple[str, ScriptedEngine], headers: Mapping[str, str], path: str
) -> None:
    """DNS rebinding: the page is of the same origin, and only the name of the host tells it apart."""
    status, body = ask(local[0], headers, "GET", path)
    assert (status, json.loads(body)["error"]["code"]) == (403, "host_not_allowed")
    assert "--allowed-host" in json.loads(body)["error"]["message"]


@pytest.mark.parametrize("host", ["localhost:80@evil.example", "[evil]", "evil.example/localhost", "localhost evil"])
def test_a_host_that_is_none_gets_nothing(local: tuple[str, ScriptedEngine], host: str) -> None:
    assert ask(local[0], {"Host": host}, "GET", "/v1/models")[0] in (400, 403)


def test_a_second_host_header_hides_nothing(local: tuple[str, ScriptedEngine]) -> None:
    connection = http.client.HTTPConnection(local[0], timeout=20)
    connection.putrequest("GET", "/v1/models", skip_host=True)
    for host in ("localhost", "evil.example"):
        connection.putheader("Host", host)
    connection.endheaders()
    assert connection.getresponse().status in (400, 403)
    connection.close()


def test_a_link_may_lead_to_the_chat_page_but_no_page_may_frame_or_send_to_it(
    local: tuple[str, ScriptedEngine],
) -> None:
    visit = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert ask(local[0], visit, "GET", "/")[0] == 200
    assert ask(local[0], {**visit, "Sec-Fetch-Dest": "iframe"}, "GET", "/")[0] == 403
    assert ask(local[0], visit, "POST", "/")[0] == 403, "a form"
    assert ask(local[0], visit, "DELETE", "/v1/responses/resp_1")[0] == 403


def test_the_refusal_names_the_way_in() -> None:
    with served(ApiOptions()) as (address, _):
        status, body = ask(address, {"Origin": EVIL})
    error = json.loads(body)["error"]
    assert (status, error["code"]) == (403, "cross_site_request")
    assert f"--cors-origin {EVIL}" in error["message"]


def test_a_page_that_is_named_may_call_and_no_other() -> None:
    with served(ApiOptions(cors_origins=(EVIL, "null"), on_loopback=True)) as (address, _):
        for origin, status in ((EVIL, 200), ("null", 200), ("https://other.example", 403), ("http://localhost:1", 403)):
            assert ask(address, {"Origin": origin, "Sec-Fetch-Site": "cross-site"})[0] == status, origin


def test_all_pages_may_call_where_that_is_set_but_not_by_any_name() -> None:
    with served(ApiOptions(cors_origins=("*",), on_loopback=True)) as (address, _):
        for headers in FOREIGN_PAGES:
            assert ask(address, headers)[0] == 200, headers
        assert ask(address, {"Host": "evil.example"})[0] == 403


def test_elsewhere_callers_use_any_name_of_the_machine_and_foreign_pages_are_still_refused() -> None:
    with served(ApiOptions()) as (address, _):
        for headers in FOREIGN_NAMES:
            assert ask(address, headers)[0] == 200, headers
        for headers in FOREIGN_PAGES:
            assert ask(address, headers)[0] == 403, headers


def test_any_name_can_be_allowed() -> None:
    with served(ApiOptions(on_loopback=True, allowed_hosts=("*",))) as (address, _):
        assert ask(address, {"Host": "anything.example"})[0] == 200


@pytest.fixture
async def with_keys(engine: ScriptedEngine) -> AsyncIterator[httpx.AsyncClient]:
    keys = ApiKeyStore(parse_keys(("a:secret-of-ann",), Limits(), "test"))
    async with connect(make_app(engine, ApiOptions(keys=keys, on_loopback=True))) as client:
        yield client


@pytest.mark.anyio
async def test_with_keys_the_key_decides(with_keys: httpx.AsyncClient) -> None:
    for headers in ({"Host": "evil.example"}, {"Origin": EVIL, "Sec-Fetch-Site": "cross-site"}):
        assert (await with_keys.post(CHAT, content=HELLO, headers=headers)).status_code == 401
        with_key = {**headers, "Authorization": "Bearer secret-of-ann"}
        assert (await with_keys.post(CHAT, content=HELLO, headers=with_key)).status_code == 200


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("origin", "allowed"),
    [("http://localhost:3000", True), ("http://127.0.0.1", True), ("http://[::1]:1", True), (EVIL, False),
     ("null", False), ("http://localhost.evil.example", False)],
)  # fmt: skip
async def test_a_preflight_grants_something_to_pages_of_this_machine_alone(
    engine: ScriptedEngine, origin: str, allowed: bool
) -> None:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Private-Network": "true",
    }
    async with connect(make_app(engine)) as client:
        reply = await client.options(CHAT, headers=asked)
    granted = [reply.headers.get(f"access-control-allow-{what}") for what in ("origin", "private-network")]
    assert (reply.status_code, granted) == ((200, [origin, "true"]) if allowed else (400, [None, None]))


@pytest.mark.parametrize(
    ("authority", "host"),
    [("a.example", "a.example"), ("A.Example.:80", "a.example"), ("[::1]:80", "::1"), ("[::1]", "::1"), ("", ""),
     ("a b@c", ""), ("a:b", ""), ("::1", ""), ("localhost:80:90", "")],
)  # fmt: skip
def test_the_host_of_an_authority(authority: str, host: str) -> None:
    assert host_of(authority) == host


def test_which_names_are_of_this_machine() -> None:
    names = ("localhost", "a.localhost", "127.0.0.1", "127.1.2.3", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1")
    assert [name for name in names if not is_local_host(name)] == []
    assert [name for name in names if not is_loopback_host(name)] == ["0.0.0.0", "::"]
    foreign = ("", "localhosts", "127.1", "10.0.0.1", "localhost.a", "::2", "::ffff:10.0.0.1", "0x7f.1")
    assert [name for name in foreign if is_local_host(name) or is_loopback_host(name)] == []
