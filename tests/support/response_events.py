"""Requests for responses, and what comes back, checked against the client's types and against each other."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, get_args

import httpx
from openai.types.responses import Response, ResponseStreamEvent

from tests.support.wire_models import checked

Json = dict[str, Any]
URL = "/v1/responses"

_KINDS = {kind.model_fields["type"].annotation.__args__[0]: kind for kind in get_args(get_args(ResponseStreamEvent)[0])}
_ENDS = ("response.completed", "response.incomplete", "response.failed")


async def create(http: httpx.AsyncClient, **fields: object) -> Json:
    reply = await http.post(URL, json={"input": "你好", **fields})
    assert reply.status_code == 200, reply.text
    check_response(reply.json())
    result: Json = reply.json()
    return result


async def events(http: httpx.AsyncClient, **fields: object) -> list[Json]:
    reply = await http.post(URL, json={"input": "你好", "stream": True, **fields})
    assert reply.headers["content-type"].startswith("text/event-stream")
    return read_events(reply.text)


async def refusal(http: httpx.AsyncClient, **fields: object) -> tuple[int, str | None, str | None]:
    reply = await http.post(URL, json={"input": "你好", **fields})
    error = reply.json()["error"]
    return reply.status_code, error["param"], error["code"]


def check_response(data: Json) -> Response:
    """Return ``data`` as the client reads it. The interface returns ``store``, though the client's type forgot it."""
    return checked(Response, data, beyond=("store",))


def read_events(body: str) -> list[Json]:
    """Return the data of all events of a stream, whose names and numbers must be right."""
    events = []
    for block in body.strip().split("\n\n"):
        if block.startswith(":"):
            continue
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        # The client's type lacks the bytes of a token here, and in older versions the name of a finished call.
        checked(_KINDS[event["type"]], event, beyond=("store", "bytes", "name"))
        events.append(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def check_order(events: Sequence[Json]) -> Json:
    """Check that the events tell of one response from first to last, and return it."""
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    assert all(event["response"]["status"] == "in_progress" for event in events[:2])
    assert [event["type"] for event in events if event["type"] in _ENDS] == [events[-1]["type"]]
    final: Json = events[-1]["response"]
    assert events[-1]["type"] == f"response.{final['status']}"
    check_response(final)
    left = iter(events[2:-1])
    items: list[Json] = []
    while (first := next(left, None)) is not None:
        assert first["type"] == "response.output_item.added"
        assert first["output_index"] == len(items)
        item = _READERS[first["item"]["type"]](first, left)
        items.append(item)
    assert items == final["output"]
    return final


def _read_message(added: Json, left: Iterator[Json], kind: str = "response.output_text") -> Json:
    assert added["item"]["content"] == []
    opened = next(left)
    assert opened["type"] == "response.content_part.added"
    text, done = _gather(kind, left)
    assert done["text"] == text
    closed, item = next(left), next(left)
    assert closed["type"] == "response.content_part.done"
    assert closed["part"]["text"] == text
    return _closed(added, item, [opened, done, closed])


def _read_call(added: Json, left: Iterator[Json]) -> Json:
    arguments, done = _gather("response.function_call_arguments", left)
    item = next(left)
    assert done["arguments"] == arguments == item["item"]["arguments"]
    return _closed(added, item, [done])


def _read_reasoning(added: Json, left: Iterator[Json]) -> Json:
    return _read_message(added, left, "response.reasoning_text")


_READERS = {"message": _read_message, "reasoning": _read_reasoning, "function_call": _read_call}


def _gather(kind: str, left: Iterator[Json]) -> tuple[str, Json]:
    pieces = []
    while (event := next(left))["type"] == f"{kind}.delta":
        pieces.append(event["delta"])
    assert event["type"] == f"{kind}.done"
    return "".join(pieces), event


def _closed(added: Json, item: Json, between: Sequence[Json]) -> Json:
    assert item["type"] == "response.output_item.done"
    assert {event["item_id"] for event in between} == {added["item"]["id"]} == {item["item"]["id"]}
    assert added["item"]["status"] == "in_progress"
    result: Json = item["item"]
    return result
