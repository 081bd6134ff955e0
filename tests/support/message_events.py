"""The events of a message, checked against Anthropic's types and against each other."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from anthropic.types import (
    Message,
    RawContentBlockDeltaEvent,
    RawContentBlockStartEvent,
    RawContentBlockStopEvent,
    RawMessageDeltaEvent,
    RawMessageStartEvent,
    RawMessageStopEvent,
)
from anthropic.types.shared import ErrorResponse
from pydantic import BaseModel

from tests.support.wire_models import checked

Json = dict[str, Any]

_KINDS: Mapping[str, type[BaseModel]] = {
    "message_start": RawMessageStartEvent,
    "content_block_start": RawContentBlockStartEvent,
    "content_block_delta": RawContentBlockDeltaEvent,
    "content_block_stop": RawContentBlockStopEvent,
    "message_delta": RawMessageDeltaEvent,
    "message_stop": RawMessageStopEvent,
    "error": ErrorResponse,
}


def check_message(data: Json) -> Message:
    """Return ``data`` as the client reads it."""
    return checked(Message, data)


def read_message_events(body: str) -> list[Json]:
    """Return the data of all events of a stream, whose names must be right."""
    events = []
    for block in body.strip().split("\n\n"):
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        if event["type"] == "ping":
            assert event == {"type": "ping"}
        else:
            checked(_KINDS[event["type"]], event)
        events.append(event)
    return events


def gather(events: Sequence[Json]) -> Json:
    """Return the message that a stream tells of, whose events must come in order."""
    start, ping, *blocks, delta, stop = events
    assert [start["type"], ping["type"]] == ["message_start", "ping"]
    assert [delta["type"], stop["type"]] == ["message_delta", "message_stop"]
    message: Json = {**start["message"], **delta["delta"], "usage": delta["usage"]}
    assert message["content"] == []
    pieces: list[str] = []
    for event in blocks:
        assert event["index"] == len(message["content"])
        if event["type"] == "content_block_start":
            opened, pieces = event["content_block"], []
        elif event["type"] == "content_block_delta":
            delta = event["delta"]
            opened = {**opened, "signature": delta["signature"]} if "signature" in delta else opened
            pieces.append(delta.get("text") or delta.get("partial_json") or delta.get("thinking") or "")
        elif opened["type"] in ("text", "thinking"):
            message["content"].append({**opened, opened["type"]: "".join(pieces)})
        else:
            message["content"].append({**opened, "input": json.loads("".join(pieces) or "{}")})
    check_message(message)
    return message
