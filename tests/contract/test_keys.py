"""Where the server has keys, nobody gets anything without one, and nobody more than his key allows."""

import logging
import secrets

import httpx
import pytest
from fastapi import FastAPI
from openai import AuthenticationError, RateLimitError

from glmserve.bootstrap.app import ApiOptions
from glmserve.engine.interface import EngineState
from glmserve.http.api_keys import ApiKeyStore, parse_keys
from glmserve.http.request_record import Limits
from tests.support.api import MODEL, connect, make_app
from tests.support.official import openai_client
from tests.support.scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

KEYS = ("ann:secret-of-ann", "secret-of-nobody", "bob:secret-of-bob requests=2 tokens=1000000")
CHAT = "/v1/chat/completions"
HELLO = {"messages": [{"role": "user", "content": "hi"}]}
ANN = {"Authorization": "Bearer secret-of-ann"}


NO_KEYS: tuple[dict[str, str], ...] = (
    {},
    {"Authorization": "Bearer wrong-secret"},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer "},
    {"Authorization": "Basic secret-of-ann"},
    {"Authorization": "secret-of-ann"},
    {"Authorization": "Bearer ann:secret-of-ann"},
    {"Authorization": "Bearer secret-of-ann2"},
    {"x-api-key": "SECRET-OF-ANN"},
    {"x-api-key": "\u00e9" * 8},
    {"Cookie": "secret-of-ann"},
)


@pytest.fixture
def options() -> ApiOptions:
    return ApiOptions(keys=ApiKeyStore(parse_keys(KEYS, Limits(), "test")))


def test_each_key_is_compared_in_constant_time_whichever_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """What broke: vLLM compared keys byte by byte until one differed (CVE-2025-59425)."""
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return secrets.compare_digest(one, other)

    ring = ApiKeyStore(parse_keys(KEYS, Limits(), "test"))
    monkeypatch.setattr("glmserve.http.api_keys.hmac.compare_digest", compare)
    for secret in (b"secret-of-ann", b"secret-of-bob", b"wrong", b"", b"x" * 10_000):
        compared.clear()
        ring.find(secret)
        assert len(compared) == len(KEYS)
        assert {len(part) for pair in compared for part in pair} == {32}


def as_bytes(headers: dict[str, str]) -> dict[bytes, bytes]:
    return {name.encode(): value.encode("latin-1") for name, value in headers.items()}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models"),
        ("GET", "/openapi.json"),
        ("GET", "/metrics"),
        ("GET", "/nowhere"),
        ("OPTIONS", CHAT),
        ("POST", CHAT),
        ("POST", "/v1/nowhere"),
        ("PUT", "/health/x"),
        ("GET", "/healthy"),
        ("GET", "/chatglm"),
    ],
)
async def test_without_a_key_there_is_nothing(http: httpx.AsyncClient, method: str, path: str) -> None:
    for headers in NO_KEYS:
        reply = await http.request(method, path, headers=as_bytes(headers))
        assert reply.status_code == 401, headers
        assert reply.json()["error"]["code"] == "invalid_api_key"
        assert reply.headers["www-authenticate"] == "Bearer"
        assert reply.headers["x-request-id"]


async def test_metrics_may_be_read_without_a_key_and_nothing_else(engine: ScriptedEngine) -> None:
    """llm-d's endpoint picker sends no key with its requests for metrics."""
    keys = ApiKeyStore(parse_keys(KEYS, Limits(), "test"))
    async with connect(make_app(engine, ApiOptions(keys=keys, public_metrics=True))) as http:
        assert "glmserve:num_requests_waiting" in (await http.get("/metrics")).text
        for path in ("/metrics/x", "/v1/models", "/v1/loads", "/openapi.json"):
            assert (await http.get(path)).status_code == 401, path


@pytest.mark.parametrize("path", ["/", "/chatglm", "/baichuan"])
async def test_a_legacy_address_says_it_in_its_own_shape(http: httpx.AsyncClient, path: str) -> None:
    reply = await http.post(path, json={"prompt": "hi"})
    assert reply.status_code == 401
    assert (reply.json()["status"], reply.json()["response"], reply.json()["history"]) == (401, "", [])
    assert "API key" in reply.json()["error"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_health_needs_no_key(http: httpx.AsyncClient, method: str) -> None:
    assert (await http.request(method, "/health")).status_code == 200


@pytest.mark.parametrize("headers", NO_KEYS)
async def test_health_without_a_key_tells_what_a_load_balancer_needs(
    http: httpx.AsyncClient, engine: ScriptedEngine, headers: dict[str, str]
) -> None:
    """It told the model's file, the queue and the sums of tokens."""
    sent = as_bytes(headers)
    assert (await http.get("/health", headers=sent)).json() == {"status": "ok"}
    engine.state, engine.reason = EngineState.RESTARTING, "the engine of secret.gguf died"
    reply = await http.get("/health", headers=sent)
    assert (reply.status_code, reply.json()) == (503, {"status": "restarting"})
    assert "secret.gguf" in (await http.get("/health", headers=ANN)).text


async def test_health_tells_all_to_who_has_a_key(http: httpx.AsyncClient) -> None:
    assert (await http.get("/health", headers=ANN)).json()["models"][0]["name"] == MODEL


async def test_a_preflight_needs_no_key(http: httpx.AsyncClient) -> None:
    headers = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}
    assert (await http.options(CHAT, headers=headers)).status_code == 200


async def test_a_refusal_can_be_read_by_a_page(http: httpx.AsyncClient) -> None:
    reply = await http.post(CHAT, json=HELLO, headers={"Origin": "http://localhost:3000"})
    assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (401, "http://localhost:3000")


@pytest.mark.parametrize(
    "headers",
    [
        ANN,
        {"Authorization": "bearer secret-of-nobody"},
        {"x-api-key": "secret-of-ann"},
        {"api-key": "secret-of-ann"},
        {"Authorization": "Bearer something-else", "x-api-key": "secret-of-ann"},
    ],
)
async def test_every_key_opens_in_either_header(http: httpx.AsyncClient, headers: dict[str, str]) -> None:
    assert (await http.post(CHAT, json=HELLO, headers=headers)).status_code == 200
    assert (await http.get("/v1/models", headers=headers)).status_code == 200


async def test_the_official_client_learns_what_is_wrong_with_its_key(app: FastAPI, http: httpx.AsyncClient) -> None:
    assert (await openai_client(app, "secret-of-ann").models.list()).data
    with pytest.raises(AuthenticationError) as caught:
        await openai_client(app, "wrong-secret").models.list()
    assert caught.value.code == "invalid_api_key"


async def test_no_secret_is_ever_logged(
    http: httpx.AsyncClient, engine: ScriptedEngine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    engine.reject = RuntimeError("fault")
    await http.post(CHAT, json=HELLO, headers=ANN)
    await http.post(CHAT, json=HELLO, headers={"x-api-key": "secret-of-eve"})
    assert "fault" in caplog.text
    assert "secret" not in caplog.text


async def test_a_key_has_its_own_budget_and_learns_what_is_left_of_it(http: httpx.AsyncClient) -> None:
    bob = {"Authorization": "Bearer secret-of-bob"}
    replies = [await http.post(CHAT, json=body, headers=bob) for body in (HELLO, {}, HELLO)]
    assert [reply.status_code for reply in replies] == [200, 400, 429]
    assert [reply.headers["x-ratelimit-remaining-requests"] for reply in replies] == ["1", "0", "0"]
    assert replies[2].headers["x-ratelimit-limit-requests"] == "2"
    assert 1 <= int(replies[2].headers["retry-after"]) <= 30
    assert replies[2].json()["error"]["code"] == "rate_limit_exceeded"
    assert replies[2].headers["x-ratelimit-limit-tokens"] == "1000000"
    assert (await http.get("/v1/models", headers=bob)).status_code == 200
    ann = await http.post(CHAT, json=HELLO, headers=ANN)
    assert ann.status_code == 200
    assert "x-ratelimit-limit-requests" not in ann.headers


async def test_a_legacy_rate_limit_error_has_the_legacy_format(http: httpx.AsyncClient) -> None:
    bob = {"x-api-key": "secret-of-bob"}
    replies = [await http.post("/chatglm", json={"prompt": "hi"}, headers=bob) for _ in range(3)]
    assert [reply.json()["status"] for reply in replies] == [200, 200, 429]
    assert int(replies[2].headers["retry-after"]) > 0


async def test_without_keys_all_callers_share_the_budget(engine: ScriptedEngine) -> None:
    app = make_app(engine, ApiOptions(limits=Limits(tokens_per_minute=10)))
    async with connect(app):
        ask = openai_client(app).chat.completions
        await ask.create(model=MODEL, messages=[{"role": "user", "content": "hi"}])
        with pytest.raises(RateLimitError, match="10 tokens per minute"):
            await ask.create(model=MODEL, messages=[{"role": "user", "content": "hi"}])


async def test_a_stored_response_is_there_for_its_key_alone(http: httpx.AsyncClient) -> None:
    ann, bob = {"x-api-key": "secret-of-ann"}, {"x-api-key": "secret-of-bob"}
    mine = (await http.post("/v1/responses", json={"input": "hi"}, headers=ann)).json()["id"]
    goes_on = {"input": "hi", "previous_response_id": mine}
    assert [(await http.post("/v1/responses", json=goes_on, headers=who)).status_code for who in (bob, ann)] == [
        400,
        200,
    ]
    for address in (f"/v1/responses/{mine}", f"/v1/responses/{mine}/input_items"):
        assert [(await http.get(address, headers=who)).status_code for who in (bob, ann)] == [404, 200]
    assert [(await http.delete(f"/v1/responses/{mine}", headers=who)).status_code for who in (bob, ann)] == [404, 200]


async def test_anthropics_client_learns_what_is_wrong_with_its_key(http: httpx.AsyncClient) -> None:
    reply = await http.post("/v1/messages", json=HELLO, headers={"x-api-key": "something-else"})
    assert (reply.status_code, reply.json()["error"]["type"]) == (401, "authentication_error")
