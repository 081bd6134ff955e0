"""What the log says of requests, and that it says nothing of what people wrote."""

import json
import logging
from collections.abc import Iterator

import httpx
import pytest

from glmserve.bootstrap.app import ApiOptions
from glmserve.engine.errors import EngineDied
from glmserve.http.api_keys import ApiKeyStore, parse_keys
from glmserve.http.request_record import Limits
from glmserve.observability.logging import JsonFormatter, RequestIdFilter
from tests.support.api import connect, make_app
from tests.support.scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
SECRET = "甲乙丙丁"
HELLO = {"messages": [{"role": "user", "content": SECRET}]}


class Lines(logging.Handler):
    """The log as JSON."""

    def __init__(self) -> None:
        super().__init__()
        self.addFilter(RequestIdFilter())
        self.setFormatter(JsonFormatter())
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))

    def of(self, logger: str) -> list[dict[str, object]]:
        return [line for line in map(json.loads, self.texts) if line["logger"] == logger]


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler, root = Lines(), logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield handler
    root.setLevel(before)
    root.removeHandler(handler)


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


async def test_the_access_log_has_a_line_for_each_request_with_what_it_took(
    lines: Lines, engine: ScriptedEngine
) -> None:
    keys = ApiKeyStore(parse_keys(("ann:secret-of-ann",), Limits(), "test"))
    app = make_app(engine, ApiOptions(access_log=True, keys=keys))
    headers = {"Authorization": "Bearer secret-of-ann", "X-Request-Id": "r-1"}
    async with connect(app) as http:
        reply = await http.post(f"{CHAT}?q={SECRET}", json=HELLO, headers=headers)
        await http.post(CHAT, json=HELLO)
    answered, refused = [line for line in lines.of("glmserve.http.middleware.request_log") if line["path"] == CHAT]
    assert reply.status_code == 200
    usage = reply.json()["usage"]
    expected = {
        "method": "POST", "path": CHAT, "client": "127.0.0.1", "status": 200, "key": "ann",
        "model": "chatglm2-tiny", "request_id": "r-1",
        "prompt_tokens": usage["prompt_tokens"], "completion_tokens": usage["completion_tokens"],
    }  # fmt: skip
    assert {name: answered.get(name) for name in expected} == expected
    assert all(float(str(answered[name])) >= 0 for name in ("seconds", "queue_seconds", "first_token_seconds"))
    assert (refused["status"], refused["error"], refused.get("key")) == (401, "invalid_api_key", None)
    assert "secret-of-ann" not in "".join(lines.texts)
    assert SECRET not in "".join(lines.texts)


async def test_a_path_cannot_forge_a_line(lines: Lines, engine: ScriptedEngine) -> None:
    async with connect(make_app(engine, ApiOptions(access_log=True))) as http:
        await http.get("/a%0A2026-01-01 INFO forged")
    (line,) = [line for line in lines.of("glmserve.http.middleware.request_log") if line["path"] != "/health"]
    assert line["path"] == "/a%0A2026-01-01%20INFO%20forged"


async def test_a_stream_that_broke_off_names_the_error(lines: Lines, engine: ScriptedEngine) -> None:
    engine.fail = EngineDied("it died")
    async with connect(make_app(engine, ApiOptions(access_log=True))) as http:
        await http.post(CHAT, json={**HELLO, "stream": True})
    (line,) = [line for line in lines.of("glmserve.http.middleware.request_log") if line["path"] == CHAT]
    assert (line["status"], line["error"]) == (200, "engine_died")


@pytest.mark.parametrize("asked_for", [False, True])
async def test_prompts_and_answers_are_logged_only_where_that_is_requested(
    lines: Lines, engine: ScriptedEngine, asked_for: bool
) -> None:
    async with connect(make_app(engine, ApiOptions(log_prompts=asked_for))) as http:
        whole = await http.post(CHAT, json=HELLO, headers={"X-Request-Id": "whole"})
        await http.post(CHAT, json={**HELLO, "stream": True}, headers={"X-Request-Id": "streamed"})
    told = lines.of("glmserve.generation.prompt_log")
    answer = json.dumps(whole.json()["choices"][0]["message"]["content"], ensure_ascii=False)
    expected = [(name, text) for name in ("whole", "streamed") for text in ("prompt: ", f"answer 0: {answer}")]
    found = [(line["request_id"], line["message"]) for line in told]
    assert len(found) == (len(expected) if asked_for else 0)
    assert all(
        name == one[0] and str(one[1]).startswith(text) for (name, text), one in zip(expected, found, strict=False)
    )
    assert (SECRET in "".join(lines.texts)) == asked_for


async def test_an_error_that_quotes_a_prompt_does_not_bring_it_into_the_log(
    lines: Lines, engine: ScriptedEngine
) -> None:
    async with connect(make_app(engine)) as http:
        for engine.reject, engine.fail in ((ValueError(SECRET), None), (None, RuntimeError(SECRET))):
            for path, body in ((CHAT, HELLO), (CHAT, {**HELLO, "stream": True}), ("/chatglm", {"prompt": SECRET})):
                reply = await http.post(path, json=body)
                assert SECRET not in reply.text or path == CHAT
    assert len([text for text in lines.texts if "unhandled error" in text]) == 6
    assert SECRET not in "".join(lines.texts)


async def test_bodies_that_are_refused_are_not_logged(lines: Lines, engine: ScriptedEngine) -> None:
    bodies = (
        f'{{"messages": "{SECRET}"',
        f'{{"messages": [{{"role": "user", "content": {{"{SECRET}": 1}}}}]}}',
        SECRET,
    )
    async with connect(make_app(engine, ApiOptions(access_log=True))) as http:
        for body in bodies:
            for path in (CHAT, "/v1/responses", "/v1/messages", "/chatglm", "/v1/embeddings"):
                reply: httpx.Response = await http.post(path, content=body.encode())
                assert reply.status_code >= 400
    assert SECRET not in "".join(lines.texts)
