"""A model that another server runs: every dialect under the names of this one, on a server with vLLM's wire format."""

import asyncio
import json

import httpx
import pytest
from fastapi import FastAPI

from glmserve.bootstrap.app import ApiOptions
from glmserve.http.api_keys import ApiKeyStore, parse_keys
from glmserve.http.request_record import Limits
from tests.support.api import connect, served_model
from tests.support.scripted_engine import ScriptedEngine
from tests.support.scripted_upstream import (
    CHAT,
    KEY,
    LAST,
    NAME,
    TASK,
    THERE,
    Script,
    ScriptedUpstream,
    chunk,
    chunks_of,
    cut_off,
    event,
    fails,
    framed,
    reply,
    said,
    says,
    stream,
    stream_head,
    whole,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def app(upstream: ScriptedUpstream) -> FastAPI:
    return upstream.app(options=ApiOptions(tasks={TASK.id: TASK}))


async def test_a_chat_is_passed_on_as_it_is(http: httpx.AsyncClient, upstream: ScriptedUpstream) -> None:
    upstream.script = lambda _: reply(whole(reasoning_content="想"))
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
    body = {
        **CHAT,
        "messages": [{"role": "user", "content": [image]}],
        "chat_template_kwargs": {"enable_thinking": False},
    }
    answer = await http.post("/v1/chat/completions", json=body, headers={"Cookie": "a=b", "X-Secret": "s"})
    assert answer.json() == {**whole(reasoning_content="想"), "model": NAME}
    (asked,) = upstream.requests
    assert asked.path == "/v1/chat/completions"
    assert asked.body == {**body, "model": THERE}
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert not {"cookie", "x-secret", "origin", "x-forwarded-for"} & set(asked.headers)
    assert asked.headers["x-request-id"] == answer.headers["x-request-id"]


async def test_no_name_and_an_alias_mean_the_model(upstream: ScriptedUpstream) -> None:
    upstream.script = lambda _: reply(whole())
    async with connect(upstream.app(aliases=("gpt-4o",))) as http:
        for name in ({}, {"model": None}, {"model": "gpt-4o"}):
            answer = await http.post("/v1/chat/completions", json={"messages": CHAT["messages"], **name})
            assert answer.json()["model"] == NAME
        assert (await http.post("/v1/chat/completions", json={**CHAT, "model": "other"})).status_code == 404


async def test_a_local_model_beside_it_is_answered_here(upstream: ScriptedUpstream) -> None:
    here = served_model(ScriptedEngine(reply=lambda _: "here"), "small")
    async with connect(upstream.app(here)) as http:
        answer = await http.post("/v1/chat/completions", json={"messages": CHAT["messages"]})
        assert answer.json()["choices"][0]["message"]["content"] == "here"
        assert not upstream.requests
        assert said((await http.post("/v1/chat/completions", json={**CHAT, "stream": True})).text) == "好"
        assert (await http.post("/chatglm", json={"prompt": "hi"})).json()["response"] == "here"


async def test_a_stream_hides_counts_that_nobody_asked_for(http: httpx.AsyncClient, upstream: ScriptedUpstream) -> None:
    upstream.script = lambda _: says("你", "好")
    answer = await http.post("/v1/chat/completions", json={**CHAT, "stream": True})
    chunks = chunks_of(answer.text)
    assert said(answer.text) == "你好"
    assert all("usage" not in one and one["choices"] and one["model"] == NAME for one in chunks)
    assert upstream.requests[0].body["stream_options"] == {"include_usage": True}


async def test_a_stream_with_counts(http: httpx.AsyncClient, upstream: ScriptedUpstream) -> None:
    upstream.script = lambda _: says("你")
    options = {"include_usage": True, "continuous_usage_stats": False}
    answer = await http.post("/v1/chat/completions", json={**CHAT, "stream": True, "stream_options": options})
    assert chunks_of(answer.text)[-1] == {**LAST, "model": NAME}
    assert upstream.requests[0].body["stream_options"] == options


async def test_reasoning_and_calls_in_a_stream(http: httpx.AsyncClient, upstream: ScriptedUpstream) -> None:
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}
    parts = (chunk(reasoning="想"), chunk(tool_calls=[call]), chunk("tool_calls"))
    upstream.script = lambda _: stream(*parts)
    answer = await http.post("/v1/chat/completions", json={**CHAT, "stream": True})
    deltas = [one["choices"][0]["delta"] for one in chunks_of(answer.text)]
    assert deltas == [{"reasoning": "想"}, {"tool_calls": [call]}, {}]


async def test_a_character_cut_between_two_packets(http: httpx.AsyncClient, upstream: ScriptedUpstream) -> None:
    data = b"".join(map(event, (chunk(content="你好😀"), chunk("stop"), LAST))) + event("[DONE]")
    upstream.script = lambda _: [stream_head(), *(framed(data[i : i + 1]) for i in range(len(data))), b"0\r\n\r\n"]
    assert said((await http.post("/v1/chat/completions", json={**CHAT, "stream": True})).text) == "你好😀"


@pytest.mark.parametrize("raw", ['"\\ud83d"', '"a\\ud83d\\ud83d b"'])
async def test_half_a_surrogate_pair_breaks_no_stream(
    http: httpx.AsyncClient, upstream: ScriptedUpstream, raw: str
) -> None:
    line = json.dumps(chunk(content="X")).replace('"X"', raw)
    upstream.script = lambda _: [stream_head(), framed(event(line)), *stream(chunk("stop"))[1:]]
    answer = await http.post("/v1/chat/completions", json={**CHAT, "stream": True})
    assert "?" in said(answer.text)


def last_error(text: str) -> str:
    return str(chunks_of(text)[-1]["error"]["code"])


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (lambda _: cut_off([stream_head(), framed(event(chunk(content="你")))]), "upstream_died"),
        (lambda _: [stream_head(), framed(event(chunk(content="你"))), b"0\r\n\r\n"], "upstream_died"),
        (lambda _: [*stream(chunk(content="你"), fails("CUDA error", 500), end=False)], "upstream_failed"),
        (lambda _: [stream_head(), framed(event("{not json")), b"0\r\n\r\n"], "upstream_failed"),
        (lambda _: [stream_head(), framed(b"data: " + b"x" * (5 << 20)), b"0\r\n\r\n"], "upstream_failed"),
        (lambda _: [stream_head(), framed(b"data:\n" * (5 << 20)), b"0\r\n\r\n"], "upstream_failed"),
        (lambda _: [stream_head(), framed(event("[" * 100_000)), b"0\r\n\r\n"], "upstream_failed"),
    ],
)
async def test_a_stream_that_fails(
    http: httpx.AsyncClient, upstream: ScriptedUpstream, script: Script, code: str
) -> None:
    upstream.script = script
    answer = await http.post("/v1/chat/completions", json={**CHAT, "stream": True})
    assert last_error(answer.text) == code
    assert f'request_failed_total{{model_name="{NAME}",reason="{code}"}} 1.0' in (await http.get("/metrics")).text


async def test_an_end_without_done_after_the_last_chunk(http: httpx.AsyncClient, upstream: ScriptedUpstream) -> None:
    upstream.script = lambda _: stream(chunk(content="好"), chunk("stop"), end=False)
    assert said((await http.post("/v1/chat/completions", json={**CHAT, "stream": True})).text) == "好"


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(
    ("given", "expected", "retry"),
    [
        ((400, "", fails("too long", 400, code="context_length_exceeded", param="messages")), 400, None),
        ((422, "", {"detail": [{"loc": ["body", "n"]}]}), 422, None),
        ((404, "", {"object": "error", "message": "no such model", "code": 404}), 404, None),
        ((429, "Retry-After: 17\r\n", fails("busy", 429)), 429, "17"),
        ((429, "Retry-After: Wed, 21 Oct 2026 07:28:00 GMT\r\n", fails("busy", 429)), 429, "1"),
        ((401, "", fails("Incorrect API key provided: sk-of-the-upstream", 401)), 502, None),
        ((500, "", fails("boom", 500)), 502, None),
        ((503, "Retry-After: 9\r\n", b"<html>down</html>"), 503, "9"),
        ((504, "", b""), 504, None),
        ((302, "Location: http://169.254.169.254/\r\n", b""), 502, None),
        ((200, "", b"not json"), 502, None),
        ((200, "Content-Encoding: gzip\r\n", b"\x1f\x8b"), 502, None),
    ],
)
async def test_errors_have_the_form_of_this_server(  # noqa: PLR0917
    http: httpx.AsyncClient,
    upstream: ScriptedUpstream,
    streams: bool,
    given: tuple[int, str, object],
    expected: int,
    retry: str | None,
) -> None:
    status, headers, body = given
    upstream.script = lambda _: reply(body, status, headers)
    answer = await http.post("/v1/chat/completions", json={**CHAT, "stream": streams})
    assert answer.status_code == expected
    assert answer.headers.get("retry-after") == retry
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert KEY not in answer.text
    assert len(upstream.requests) == 1


async def test_the_words_of_a_refusal_are_the_upstreams(http: httpx.AsyncClient, upstream: ScriptedUpstream) -> None:
    upstream.script = lambda _: reply(fails("too long", 400, code="context_length_exceeded", param="messages"), 400)
    error = (await http.post("/v1/chat/completions", json=CHAT)).json()["error"]
    assert error["message"] == "the server that runs the model says: too long"
    assert (error["param"], error["code"], error["type"]) == (
        "messages", "context_length_exceeded", "invalid_request_error",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("path", "there", "body"),
    [
        ("/v1/completions", "/v1/completions", {"prompt": "a"}),
        ("/v1/embeddings", "/v1/embeddings", {"input": "a"}),
        ("/v1/rerank", "/v1/rerank", {"query": "a", "documents": ["b"]}),
        ("/v2/rerank", "/v1/rerank", {"query": "a", "documents": ["b"]}),
        ("/v1/score", "/v1/score", {"text_1": "a", "text_2": "b"}),
    ],
)
async def test_other_endpoints_are_passed_on(
    http: httpx.AsyncClient, upstream: ScriptedUpstream, path: str, there: str, body: dict[str, object]
) -> None:
    upstream.script = lambda _: reply({"object": "x", "model": THERE, "usage": {"prompt_tokens": 4, "total_tokens": 4}})
    for named in (body, {**body, "model": NAME, "odd": 1}):
        answer = await http.post(path, json=named)
        assert answer.json()["model"] == NAME
        assert upstream.requests[-1].path == there
        assert upstream.requests[-1].body == {**named, "model": THERE}
    assert f'prompt_tokens_total{{model_name="{NAME}"}} 8.0' in (await http.get("/metrics")).text


async def test_an_endpoint_that_the_upstream_has_not(http: httpx.AsyncClient, upstream: ScriptedUpstream) -> None:
    upstream.script = lambda _: reply({"detail": "Not Found"}, 404)
    answer = await http.post("/v1/embeddings", json={"input": "a"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "upstream_rejected")


def keyed(limits: Limits = Limits()) -> ApiOptions:  # noqa: B008 - frozen
    return ApiOptions(keys=ApiKeyStore(parse_keys(["a:sk-aaaaaaaa", "b:sk-bbbbbbbb"], limits, "test")))


async def test_callers_with_keys_share_nothing_in_the_upstreams_cache(upstream: ScriptedUpstream) -> None:
    upstream.script = lambda asked: says("x") if asked.body.get("stream") else reply(whole())
    async with connect(upstream.app(options=keyed())) as http:
        for key in ("sk-aaaaaaaa", "sk-bbbbbbbb", "sk-aaaaaaaa"):
            for path, body in (("/v1/chat/completions", CHAT), ("/chatglm", {"prompt": "x"})):
                answer = await http.post(path, json=body, headers={"Authorization": f"Bearer {key}"})
                assert answer.status_code == 200
    salts = [one.body["cache_salt"] for one in upstream.requests]
    assert salts[0] == salts[1] == salts[4] == salts[5] != salts[2] == salts[3]
    assert all(one.headers["authorization"] == f"Bearer {KEY}" for one in upstream.requests)


async def test_tokens_count_against_the_key(upstream: ScriptedUpstream) -> None:
    upstream.script = lambda asked: says("x")
    async with connect(upstream.app(options=keyed(Limits(tokens_per_minute=20)))) as http:
        headers = {"Authorization": "Bearer sk-aaaaaaaa"}
        statuses = [
            (await http.post("/v1/chat/completions", json={**CHAT, "stream": True}, headers=headers)).status_code
            for _ in range(3)
        ]
        assert statuses == [200, 200, 429]
        text = (await http.get("/metrics", headers=headers)).text
        assert 'key_tokens_total{key="a"} 28.0' in text
        assert f'generation_tokens_total{{model_name="{NAME}"}} 6.0' in text


async def test_an_answer_is_no_longer_than_the_model_is_let(upstream: ScriptedUpstream) -> None:
    upstream.script = lambda asked: says("x") if asked.body.get("stream") else reply(whole())
    async with connect(upstream.app(max_output_tokens=9)) as http:
        for given in ({}, {"max_tokens": 50}, {"max_completion_tokens": -1}, {"max_tokens": 4}):
            await http.post("/v1/chat/completions", json={**CHAT, **given})
        await http.post("/v1/responses", json={"input": "x"})
        limits = [
            {name: value for name, value in one.body.items() if name.startswith("max_")} for one in upstream.requests
        ]
    assert limits == [
        {"max_tokens": 9}, {"max_tokens": 9}, {"max_completion_tokens": 9}, {"max_tokens": 4}, {"max_tokens": 9},
    ]  # fmt: skip


async def test_the_list_of_models_tells_of_it(http: httpx.AsyncClient) -> None:
    listed = (await http.get("/v1/models")).json()["data"]
    assert [(one["id"], one["state"], one["context_length"], one["defaults"]) for one in listed] == [
        (NAME, "ready", 131072, None)
    ]


async def test_an_upstream_without_a_list_of_models(upstream: ScriptedUpstream) -> None:
    upstream.lists_models = False
    async with connect(upstream.app()) as http:
        assert (await http.get("/v1/models")).json()["data"][0]["context_length"] is None


async def test_a_glmserve_that_loads_its_model_is_not_ready(upstream: ScriptedUpstream) -> None:
    upstream.state = "loading"
    async with connect(upstream.app(), loaded=False) as http:
        while (status := (await http.get("/health")).json())["status"] == "loading":
            await asyncio.sleep(0.01)
        assert status["status"] == "unreachable"
        assert "loading" in status["reason"]
        upstream.state = "ready"
        while (await http.get("/health")).status_code != 200:
            await asyncio.sleep(0.05)


async def test_a_reply_that_says_503_does_not_take_the_server_out(
    http: httpx.AsyncClient, upstream: ScriptedUpstream
) -> None:
    upstream.script = lambda _: reply(fails("overloaded", 503), 503)
    assert (await http.post("/v1/chat/completions", json=CHAT)).status_code == 503
    assert (await http.get("/health")).status_code == 200


async def test_the_key_is_in_no_log(
    http: httpx.AsyncClient, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    upstream.script = lambda _: reply(fails(f"Incorrect API key provided: {KEY}", 401), 401)
    for body in (CHAT, {**CHAT, "stream": True}):
        assert (await http.post("/v1/chat/completions", json=body)).status_code == 502
    assert caplog.records
    assert KEY not in caplog.text
    assert all(KEY not in str(vars(record)) for record in caplog.records)


@pytest.mark.parametrize("spelled", ["true", "True", 1, "on"])
async def test_a_stream_by_each_spelling_that_the_upstream_reads(
    http: httpx.AsyncClient, upstream: ScriptedUpstream, spelled: object
) -> None:
    assert said((await http.post("/v1/chat/completions", json={**CHAT, "stream": spelled})).text) == "好"
    assert upstream.requests[0].body["stream"] is True
