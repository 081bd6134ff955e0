"""Schemas with parts that no grammar can hold, in every dialect: left out and told, or refused by name where strict."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from glmserve.engine.params import Grammar
from tests.support.api import MODEL
from tests.support.scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

Dialect = Callable[..., tuple[str, dict[str, Any]]]
HEADER = "x-glmserve-relaxed-schemas"
ASK = [{"role": "user", "content": "?"}]
TAGS = {
    "type": "object",
    "properties": {"tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True}},
    "required": ["tags"],
}
IMPOSSIBLE = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 5, "maximum": 2}}, "required": ["a"]}
FINE = {"type": "object", "properties": {"link": {"type": "string", "format": "uri-reference"}}, "required": ["link"]}


def chat(schema: object, **more: object) -> tuple[str, dict[str, Any]]:
    tools = [{"type": "function", "function": {"name": name, "parameters": one, **more}} for name, one in _two(schema)]
    return "/v1/chat/completions", {"model": MODEL, "messages": ASK, "tools": tools}


def functions(schema: object, **more: object) -> tuple[str, dict[str, Any]]:
    tools = [{"name": name, "parameters": one, **more} for name, one in _two(schema)]
    return "/v1/chat/completions", {"model": MODEL, "messages": ASK, "functions": tools}


def responses(schema: object, **more: object) -> tuple[str, dict[str, Any]]:
    tools = [{"type": "function", "name": name, "parameters": one, **more} for name, one in _two(schema)]
    return "/v1/responses", {"model": MODEL, "input": "?", "tools": tools}


def messages(schema: object, **more: object) -> tuple[str, dict[str, Any]]:
    tools = [{"name": name, "input_schema": one, **more} for name, one in _two(schema)]
    return "/v1/messages", {"model": MODEL, "messages": ASK, "max_tokens": 9, "tools": tools}


def _two(schema: object) -> list[tuple[str, object]]:
    return [("look_up", FINE), ("tag_it", schema)]


DIALECTS = [chat, functions, responses, messages]


def grammar(engine: ScriptedEngine) -> Grammar:
    found = engine.submissions[-1].params.grammar
    assert found is not None
    return found


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_tool_is_offered_without_the_part_and_a_header_tells(
    http: httpx.AsyncClient, engine: ScriptedEngine, dialect: Dialect
) -> None:
    path, body = dialect(TAGS)
    reply = await http.post(path, json=body)
    assert reply.status_code == 200, reply.text
    assert reply.headers[HEADER] == "tag_it: properties.tags.uniqueItems"
    assert "uniqueItems" not in grammar(engine).source
    assert "uniqueItems" in engine.submissions[-1].prompt


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_strict_tool_is_refused_by_name_and_path(http: httpx.AsyncClient, dialect: Dialect) -> None:
    path, body = dialect(TAGS, strict=True)
    reply = await http.post(path, json=body)
    assert reply.status_code == 400
    assert reply.json()["error"].get("code", "unsupported_grammar") == "unsupported_grammar"
    message = reply.json()["error"]["message"]
    assert "tag_it" in message
    assert "properties.tags.uniqueItems" in message


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_schema_that_nothing_fits_leaves_the_arguments_free_or_is_refused_by_name(
    http: httpx.AsyncClient, engine: ScriptedEngine, dialect: Dialect
) -> None:
    path, body = dialect(IMPOSSIBLE)
    reply = await http.post(path, json=body)
    assert reply.status_code == 200, reply.text
    assert reply.headers[HEADER] == "tag_it: parameters"
    assert "minimum" not in grammar(engine).source
    path, body = dialect(IMPOSSIBLE, strict=True)
    reply = await http.post(path, json=body)
    assert reply.status_code == 400
    assert "tag_it" in reply.json()["error"]["message"]
    assert "property 'a' is unsatisfiable" in reply.json()["error"]["message"]


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_streams_report_too_and_what_is_enforced_says_nothing(http: httpx.AsyncClient, dialect: Dialect) -> None:
    path, body = dialect(TAGS)
    reply = await http.post(path, json={**body, "stream": True})
    assert reply.headers[HEADER] == "tag_it: properties.tags.uniqueItems"
    path, body = dialect(FINE, strict=True)
    reply = await http.post(path, json=body)
    assert reply.status_code == 200
    assert HEADER not in reply.headers


def chat_format(**more: object) -> tuple[str, dict[str, Any]]:
    wrapped = {"name": "x", "schema": TAGS, **more}
    return "/v1/chat/completions", {
        "model": MODEL,
        "messages": ASK,
        "response_format": {"type": "json_schema", "json_schema": wrapped},
    }


def responses_format(**more: object) -> tuple[str, dict[str, Any]]:
    asked = {"type": "json_schema", "name": "x", "schema": TAGS, **more}
    return "/v1/responses", {"model": MODEL, "input": "?", "text": {"format": asked}}


@pytest.mark.parametrize("dialect", [chat_format, responses_format])
async def test_a_format_is_relaxed_and_reported_unless_it_is_strict(
    http: httpx.AsyncClient, engine: ScriptedEngine, dialect: Dialect
) -> None:
    path, body = dialect()
    reply = await http.post(path, json=body)
    assert reply.status_code == 200, reply.text
    assert reply.headers[HEADER].endswith("schema: properties.tags.uniqueItems")
    assert "uniqueItems" not in grammar(engine).source
    path, body = dialect(strict=True)
    reply = await http.post(path, json=body)
    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == "unsupported_grammar"
    assert reply.json()["error"]["param"].endswith("schema.properties.tags.uniqueItems")


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/chat/completions", {"messages": ASK, "guided_json": TAGS}),
        ("/v1/chat/completions", {"messages": ASK, "structured_outputs": {"json": TAGS}}),
        ("/v1/completions", {"prompt": "?", "guided_json": TAGS}),
        (
            "/v1/messages",
            {"messages": ASK, "max_tokens": 9, "output_config": {"format": {"type": "json_schema", "schema": TAGS}}},
        ),
    ],
)
async def test_fields_that_are_there_for_a_guarantee_give_it_or_refuse(
    http: httpx.AsyncClient, path: str, field: dict[str, Any]
) -> None:
    reply = await http.post(path, json={"model": MODEL, **field})
    assert reply.status_code == 400
    assert "properties.tags.uniqueItems" in reply.json()["error"]["message"]


async def test_names_that_callers_choose_forge_no_header(http: httpx.AsyncClient) -> None:
    name = "é\r\nset-cookie: a=b" + "x" * 1000
    schema = {"type": "object", "properties": {name: {"type": "array", "uniqueItems": True}}}
    path, body = chat(schema)
    reply = await http.post(path, json=body)
    assert reply.status_code == 200
    assert reply.headers[HEADER].startswith("tag_it: properties.%C3%A9%0D%0Aset-cookie:")
    assert len(reply.headers[HEADER]) < 500
    assert "set-cookie" not in reply.headers


async def test_a_header_names_a_few_of_many(http: httpx.AsyncClient) -> None:
    properties = {f"p{number}": {"type": "array", "uniqueItems": True} for number in range(40)}
    path, body = chat({"type": "object", "properties": properties})
    reply = await http.post(path, json=body)
    assert reply.status_code == 200
    assert len(reply.headers[HEADER]) < 2000
