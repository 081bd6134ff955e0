"""Replies against the schema that OpenAI publishes (github.com/openai/openai-openapi), which is not kept here.

Get its ``openapi.json``, then: ``OPENAI_SCHEMA=openapi.json .venv/bin/pytest tests/contract/test_published_schema.py``.
``tests/support/wire_models.py`` checks the same replies against the client libraries' strict types in every run.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import jsonschema_rs
import pytest

from glmserve.batches.service import BatchOptions
from glmserve.bootstrap.app import ApiOptions
from tests.support.api import MODEL, connect, make_app
from tests.support.scripted_engine import ScriptedEngine

SCHEMA = os.environ.get("OPENAI_SCHEMA", "")
pytestmark = pytest.mark.skipif(not SCHEMA, reason="OPENAI_SCHEMA names no openapi.json of OpenAI")

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
Body = dict[str, object]

ASK: Body = {"messages": [{"role": "user", "content": "hi"}]}
PARAMETERS = {"type": "object", "properties": {}}
CALL = '调用工具：f\n参数：{"x": 1}'
CHAT_TOOLS: Body = {**ASK, "tools": [{"type": "function", "function": {"name": "f", "parameters": PARAMETERS}}]}
RESPONSE_TOOLS: Body = {"input": "hi", "tools": [{"type": "function", "name": "f", "parameters": PARAMETERS}]}

Case = tuple[str, str, Body]
"""Address, schema of its reply, body."""

WHOLE: list[Case] = [
    (CHAT, "CreateChatCompletionResponse", ASK),
    (CHAT, "CreateChatCompletionResponse", {**ASK, "logprobs": True, "top_logprobs": 2, "n": 2}),
    (CHAT, "CreateChatCompletionResponse", CHAT_TOOLS),
    (COMPLETIONS, "CreateCompletionResponse", {"prompt": "hi", "max_tokens": 3}),
    (RESPONSES, "Response", {"input": "hi", "metadata": {"a": "b"}, "reasoning": {"effort": "low"}}),
    (RESPONSES, "Response", {"input": "hi", "include": ["message.output_text.logprobs"], "top_logprobs": 2}),
    (RESPONSES, "Response", {"input": "hi", "max_output_tokens": 1}),
    (RESPONSES, "Response", RESPONSE_TOOLS),
]
STREAMED: list[Case] = [
    (CHAT, "CreateChatCompletionStreamResponse", ASK),
    (CHAT, "CreateChatCompletionStreamResponse", {**ASK, "stream_options": {"include_usage": True, "other": 1}}),
    (CHAT, "CreateChatCompletionStreamResponse", CHAT_TOOLS),
    (RESPONSES, "ResponseStreamEvent", {"input": "hi"}),
    (RESPONSES, "ResponseStreamEvent", RESPONSE_TOOLS),
]


def _with_null(value: object) -> object:
    """Return a schema of OpenAPI 3.1 for one that marks nulls in the way of 3.0, as this one does in places."""
    if isinstance(value, list):
        return [_with_null(part) for part in value]
    if not isinstance(value, dict):
        return value
    whole = {key: _with_null(part) for key, part in value.items() if key != "nullable"}
    return {"anyOf": [whole, {"type": "null"}]} if value.get("nullable") is True else whole


@pytest.fixture
async def batches(engine: ScriptedEngine, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with connect(make_app(engine, ApiOptions(batches=BatchOptions(tmp_path / "batches")))) as client:
        yield client


async def test_files_and_batches_are_of_the_published_schema(batches: httpx.AsyncClient, components: object) -> None:
    line = {"custom_id": "a", "method": "POST", "url": CHAT, "body": ASK}
    for content in (json.dumps(line), "no JSON"):
        files = {"file": ("in.jsonl", content.encode())}
        file = (await batches.post("/v1/files", data={"purpose": "batch"}, files=files)).json()
        check(components, "OpenAIFile", file)
        body = {"input_file_id": file["id"], "endpoint": CHAT, "completion_window": "24h", "metadata": {"a": "b"}}
        batch = (await batches.post("/v1/batches", json=body)).json()
        while batch["status"] not in ("completed", "failed"):
            check_batch(components, batch)
            await asyncio.sleep(0.01)
            batch = (await batches.get(f"/v1/batches/{batch['id']}")).json()
        check_batch(components, batch)
    check(components, "ListFilesResponse", (await batches.get("/v1/files")).json())
    listed = (await batches.get("/v1/batches")).json()
    check(components, "ListBatchesResponse", {**listed, "data": [present(one) for one in listed["data"]]})
    check(components, "DeleteFileResponse", (await batches.delete(f"/v1/files/{file['id']}")).json())
    check(components, "ErrorResponse", (await batches.get(f"/v1/files/{file['id']}")).json())


def check_batch(components: object, batch: dict[str, object]) -> None:
    check(components, "Batch", present(batch))


def present(batch: dict[str, object]) -> dict[str, object]:
    """Leave out nulls, which the schema does not allow and OpenAI's own example of a batch has."""
    errors = batch["errors"]
    if isinstance(errors, dict):
        shown = [{k: v for k, v in one.items() if v is not None} for one in errors["data"]]
        batch = {**batch, "errors": {**errors, "data": shown}}
    return {name: value for name, value in batch.items() if value is not None}


@pytest.fixture(scope="module")
def components() -> object:
    return _with_null(json.loads(Path(SCHEMA).read_text("utf-8"))["components"])


def check(components: object, name: str, value: object) -> None:
    validator = jsonschema_rs.validator_for({"$ref": f"#/components/schemas/{name}", "components": components})
    faults = [(list(fault.instance_path), fault.message[:200]) for fault in validator.iter_errors(value)]
    assert not faults, faults


def events(text: str) -> Iterator[object]:
    return (json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {"))


@pytest.mark.parametrize("case", WHOLE)
async def test_a_reply_is_of_the_published_schema(
    http: httpx.AsyncClient, engine: ScriptedEngine, components: object, case: Case
) -> None:
    path, name, body = case
    if "tools" in body:
        engine.reply = lambda _: CALL
    reply = await http.post(path, json={"model": MODEL, **body})
    assert reply.status_code == 200, reply.text
    check(components, name, reply.json())


@pytest.mark.parametrize("case", STREAMED)
async def test_an_event_is_of_the_published_schema(
    http: httpx.AsyncClient, engine: ScriptedEngine, components: object, case: Case
) -> None:
    path, name, body = case
    if "tools" in body:
        engine.reply = lambda _: CALL
    told = list(events((await http.post(path, json={"model": MODEL, "stream": True, **body})).text))
    assert len(told) > 2
    for event in told:
        check(components, name, event)


async def test_models_items_and_errors_are_of_the_published_schema(http: httpx.AsyncClient, components: object) -> None:
    check(components, "ListModelsResponse", (await http.get("/v1/models")).json())
    stored = (await http.post(RESPONSES, json={"input": "hi"})).json()["id"]
    check(components, "ResponseItemList", (await http.get(f"{RESPONSES}/{stored}/input_items")).json())
    check(components, "ErrorResponse", (await http.post(CHAT, json={"messages": []})).json())
