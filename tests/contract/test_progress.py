"""What a stream tells while nothing of the answer has come: comments for everybody, chunks for those who ask."""

import json
from collections.abc import AsyncIterator

import httpx
import pytest

from glmserve.engine.messages import PromptProgress
from tests.support.api import MODEL, connect, make_app
from tests.support.scripted_engine import ScriptedEngine

QUEUED = PromptProgress(9, position=2, expected_wait=3.21)
READING = PromptProgress(9, cached=2, processed=6, seconds=0.5)
COMMENTS = [": queue position 2, expected wait 3 s", ": prompt 6 of 9 tokens"]
MESSAGES = [{"role": "user", "content": "hi"}]
STREAMS: dict[str, dict[str, object]] = {
    "/v1/chat/completions": {"messages": MESSAGES},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi"},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 5},
}


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with connect(make_app(ScriptedEngine(progress=(QUEUED, READING)))) as client:
        yield client


async def lines(http: httpx.AsyncClient, path: str, **fields: object) -> list[str]:
    reply = await http.post(path, json={"model": MODEL, "stream": True, **STREAMS[path], **fields})
    assert reply.status_code == 200, reply.text
    return [line for line in reply.text.split("\n") if line and not line.startswith(": ping")]


@pytest.mark.parametrize("path", STREAMS)
async def test_every_stream_that_waits_says_so_in_comments(http: httpx.AsyncClient, path: str) -> None:
    told = await lines(http, path)
    assert [line for line in told if line.startswith(":")] == COMMENTS
    assert "prompt_progress" not in "".join(told)


async def test_who_asks_gets_chunks_as_llama_server_has_them(http: httpx.AsyncClient) -> None:
    told = await lines(http, "/v1/chat/completions", return_progress=True)
    assert [line for line in told if line.startswith(":")] == []
    chunks = [json.loads(line.removeprefix("data: ")) for line in told if line != "data: [DONE]"]
    progress = [chunk for chunk in chunks if "prompt_progress" in chunk]
    assert [chunk["choices"] for chunk in progress] == [[], []]
    assert [chunk["prompt_progress"] for chunk in progress] == [
        {"total": 9, "cache": 0, "processed": 0, "time_ms": 0.0, "queue_position": 2, "expected_wait_ms": 3210},
        {"total": 9, "cache": 2, "processed": 6, "time_ms": 500.0, "queue_position": 0, "expected_wait_ms": None},
    ]
    texts = [choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"]]
    assert "".join(texts) == "你问的是：hi"


async def test_a_reply_that_is_no_stream_has_none(http: httpx.AsyncClient) -> None:
    body = {"model": MODEL, "messages": MESSAGES, "return_progress": True}
    reply = (await http.post("/v1/chat/completions", json=body)).json()
    assert reply["choices"][0]["message"]["content"] == "你问的是：hi"
    assert "prompt_progress" not in reply
