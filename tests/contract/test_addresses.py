"""Addresses as callers write them: slashes too many, no /v1, HEAD, and what is told where there is nothing."""

import gzip
import json

import httpx
import pytest

from glmserve.bootstrap.app import ApiOptions
from glmserve.http.api_keys import ApiKeyStore, parse_keys
from glmserve.http.request_record import Limits
from tests.support.api import connect, make_app, serve
from tests.support.raw_http import exchange
from tests.support.scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 50}
TEXT = {"prompt": "hi"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions/", CHAT),
        ("//v1/chat/completions", CHAT),
        ("/v1//chat///completions//", CHAT),
        ("/chat/completions", CHAT),
        ("/chat/completions/", CHAT),
        ("//chat/completions", CHAT),
        ("/completions", TEXT),
        ("/responses", {"input": "hi"}),
        ("/responses/input_tokens", {"input": "hi"}),
        ("/messages", CHAT),
        ("/messages/count_tokens", {"messages": CHAT["messages"]}),
        ("/chatglm/", TEXT),
        ("//chatglm", TEXT),
        ("//", TEXT),
    ],
)
async def test_an_answer_comes_however_the_address_is_written(
    http: httpx.AsyncClient, path: str, body: dict[str, object]
) -> None:
    reply = await http.post(httpx.URL("http://testserver", raw_path=path.encode()), json=body)
    assert reply.status_code == 200, reply.text


@pytest.mark.parametrize("path", ["/v1/models/", "//v1/models", "/models", "/models/", "/v1//models"])
async def test_models_are_listed(http: httpx.AsyncClient, path: str) -> None:
    reply = await http.get(httpx.URL("http://testserver", raw_path=path.encode()))
    assert reply.json()["object"] == "list"


@pytest.mark.parametrize(
    "path", ["/models/THUDM/chatglm2-6b", "/v1/models/THUDM/chatglm2-6b/", "/health/", "/metrics/"]
)
async def test_other_addresses_are_found_as_well(http: httpx.AsyncClient, path: str) -> None:
    assert (await http.get(path)).status_code == 200


async def test_there_is_no_embedding_model_at_either_address(http: httpx.AsyncClient) -> None:
    with_prefix, without = [await http.post(path, json={"input": "x"}) for path in ("/v1/embeddings", "/embeddings")]
    assert with_prefix.json() == without.json()
    assert with_prefix.json()["error"]["code"] != "not_found"


async def test_refusals_have_the_words_of_the_address_that_was_meant(http: httpx.AsyncClient) -> None:
    assert (await http.post("/messages", json={})).json()["type"] == "error"
    assert (await http.post("/chatglm/", json={})).json()["status"] == 400
    assert "error" in (await http.post("/chat/completions", json={})).json()


async def test_another_way_to_write_an_address_does_not_get_around_the_keys() -> None:
    options = ApiOptions(keys=ApiKeyStore(parse_keys(["sk-12345678"], Limits(), "test")))
    async with connect(make_app(ScriptedEngine(), options), loaded=False) as http:
        for path in (
            "//v1/models",
            "/models",
            "/models/",
            "//",
            "/health/../v1/models",
            "/page/../v1/models",
            "/page//",
        ):
            reply = await http.get(httpx.URL("http://testserver", raw_path=path.encode()))
            assert reply.status_code in (401, 404) or "html" in reply.headers["content-type"], path
            assert "chatglm2-tiny" not in reply.text
        assert (await http.post("//", json=TEXT)).status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "told"),
    [
        ("POST", "/v1/chat/completion", "/v1/chat/completions"),
        ("POST", "/v1/v1/chat/completions", "/v1/chat/completions"),
        ("GET", "/v1/model", "/v1/models"),
        ("GET", "/healthz", "/health"),
        ("POST", "/v1/audio/speech", "/openapi.json"),
        ("GET", "/" + "x" * 5000, "/openapi.json"),
    ],
)
async def test_where_there_is_nothing_the_address_and_the_nearest_one_are_named(
    http: httpx.AsyncClient, method: str, path: str, told: str
) -> None:
    reply = await http.request(method, path)
    assert reply.status_code == 404
    error = reply.json()["error"]
    assert error["code"] == "not_found"
    assert f"{method} {path[:50]}" in error["message"]
    assert told in error["message"]
    assert len(error["message"]) < 250


async def test_conversations_are_not_compacted(http: httpx.AsyncClient) -> None:
    reply = await http.post("/v1/responses/compact", json={"input": "hi"})
    assert reply.status_code == 404
    assert "truncation" in reply.json()["error"]["message"]


async def test_the_wrong_method_is_named(http: httpx.AsyncClient) -> None:
    reply = await http.get("/v1/chat/completions/")
    assert (reply.status_code, reply.headers["allow"]) == (405, "POST")


def test_head_is_get_without_the_body() -> None:
    with serve(make_app(ScriptedEngine())) as url:
        for path in ("/v1/models", "/models/", "/health", "/metrics", "/openapi.json", "/"):
            got, asked = httpx.get(url + path), httpx.head(url + path)
            assert (asked.status_code, asked.headers["content-type"]) == (200, got.headers["content-type"]), path
            assert int(asked.headers["content-length"]) > 0
        assert httpx.head(f"{url}/v1/chat/completions").status_code == 405
        head = b"HEAD /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        assert exchange(url, head).endswith(b"\r\n\r\n")


def test_nothing_is_redirected() -> None:
    """A redirect would name http:// behind a proxy with TLS, and clients send no body after it."""
    with serve(make_app(ScriptedEngine())) as url:
        for path in ("/chatglm/", "/v1/chat/completions/", "/health/", "/nowhere/", "/page", "/page/"):
            assert httpx.get(url + path).status_code in (200, 404, 405)
            assert httpx.post(url + path, json=TEXT).status_code in (200, 400, 404, 405)


async def test_replies_are_stored_nowhere_on_their_way(http: httpx.AsyncClient) -> None:
    stream = {**CHAT, "stream": True}
    replies = [
        await http.get("/health"),
        await http.get("/v1/models"),
        await http.post("/v1/chat/completions", json=CHAT),
        await http.post("/v1/chat/completions", json=stream),
        await http.post("/v1/messages", json=stream),
        await http.post("/v1/responses", json={"input": "hi"}),
        await http.post("/chatglm", json=TEXT),
        await http.post("/chatglm", json={}),
        await http.get("/nowhere"),
    ]
    assert {reply.headers["cache-control"] for reply in replies} == {"no-store"}


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "deflate", "br", "zstd", "identity, gzip", "x" * 500])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/chatglm"])
async def test_a_compressed_body_is_refused_in_words(http: httpx.AsyncClient, path: str, encoding: str) -> None:
    body = gzip.compress(json.dumps({**CHAT, "prompt": "hi"}).encode())
    reply = await http.post(path, content=body, headers={"Content-Encoding": encoding})
    assert reply.status_code == 415
    assert reply.headers["accept-encoding"] == "identity"
    assert "Content-Encoding" in reply.text
    assert len(reply.text) < 500


async def test_identity_is_no_compression(http: httpx.AsyncClient) -> None:
    headers = {"Content-Encoding": "identity"}
    assert (await http.post("/v1/chat/completions", json=CHAT, headers=headers)).status_code == 200
