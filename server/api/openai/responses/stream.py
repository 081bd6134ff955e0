"""A response while it is made: the deltas of an answer in, the events and the response object out. Pure.

A response that is not streamed is made the same way, its events being left out, so both say the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from glmserve.api.openai.envelope import logprobs_object
from glmserve.api.openai.responses.conversation import new_id
from glmserve.api.openai.responses.response import (
    ReasoningText,
    ResponseCall,
    ResponseFault,
    ResponseMessage,
    ResponseObject,
    ResponseReasoning,
    ResponseText,
    ResponseUsage,
    Status,
)
from glmserve.engine.messages import FinishReason
from glmserve.generation.generation import Usage
from glmserve.generation.output_processor import TextDelta
from glmserve.http.error_replies import ErrorReply
from glmserve.http.sse import Event

Body = Mapping[str, object]
"""The data of an event, but for its number."""


class TextItem:
    """A text of the model: a message with one part."""

    def __init__(self, index: int) -> None:
        """``index`` is its place among the items of the answer."""
        self._id = new_id("msg")
        self._index = index
        self._text: list[str] = []
        self._logprobs: list[object] = []

    def opened(self) -> Iterator[Body]:
        """Yield the events that begin it."""
        item: ResponseMessage = {**self.json("in_progress"), "content": []}
        yield {"type": "response.output_item.added", "output_index": self._index, "item": item}
        yield self._event("response.content_part.added", part=self._part())

    def delta(self, text: str, logprobs: Sequence[object]) -> Body:
        """Return the event for more text, whose tokens have ``logprobs`` where they are asked for."""
        self._text.append(text)
        self._logprobs += logprobs
        return self._event("response.output_text.delta", delta=text, logprobs=list(logprobs))

    def closed(self, status: Status) -> Iterator[Body]:
        """Yield the events that end it."""
        text = "".join(self._text)
        yield self._event("response.output_text.done", text=text, logprobs=self._logprobs)
        yield self._event("response.content_part.done", part=self._part())
        yield {"type": "response.output_item.done", "output_index": self._index, "item": self.json(status)}

    def json(self, status: Status) -> ResponseMessage:
        """Return the message as it is by now."""
        return {"id": self._id, "type": "message", "status": status, "role": "assistant", "content": [self._part()]}

    def _part(self) -> ResponseText:
        text = "".join(self._text)
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": list(self._logprobs)}

    def _event(self, kind: str, **data: object) -> Body:
        place = {"item_id": self._id, "output_index": self._index, "content_index": 0}
        return {"type": kind, **place, **data}


class ReasoningItem:
    """The reasoning of the model: an item with one part."""

    def __init__(self, index: int) -> None:
        """``index`` is its place among the items of the answer."""
        self._id = new_id("rs")
        self._index = index
        self._text: list[str] = []

    def opened(self) -> Iterator[Body]:
        """Yield the events that begin it."""
        item: ResponseReasoning = {**self.json("in_progress"), "content": []}
        yield {"type": "response.output_item.added", "output_index": self._index, "item": item}
        yield self._event("response.content_part.added", part=self._part())

    def delta(self, text: str) -> Body:
        """Return the event for more of it."""
        self._text.append(text)
        return self._event("response.reasoning_text.delta", delta=text)

    def closed(self, status: Status) -> Iterator[Body]:
        """Yield the events that end it."""
        yield self._event("response.reasoning_text.done", text="".join(self._text))
        yield self._event("response.content_part.done", part=self._part())
        yield {"type": "response.output_item.done", "output_index": self._index, "item": self.json(status)}

    def json(self, status: Status) -> ResponseReasoning:
        """Return the item as it is by now."""
        return {"id": self._id, "type": "reasoning", "status": status, "summary": [], "content": [self._part()]}

    def _part(self) -> ReasoningText:
        return {"type": "reasoning_text", "text": "".join(self._text)}

    def _event(self, kind: str, **data: object) -> Body:
        place = {"item_id": self._id, "output_index": self._index, "content_index": 0}
        return {"type": kind, **place, **data}


class OutputCall:
    """A function that the model calls."""

    def __init__(self, index: int, call_id: str, name: str) -> None:
        """``index`` is its place among the items of the answer."""
        self._id = new_id("fc")
        self._index = index
        self._call_id = call_id
        self._name = name
        self._arguments: list[str] = []

    def opened(self) -> Iterator[Body]:
        """Yield the event that begins it."""
        item = self.json("in_progress")
        yield {"type": "response.output_item.added", "output_index": self._index, "item": item}

    def delta(self, arguments: str) -> Body:
        """Return the event for more of the arguments."""
        self._arguments.append(arguments)
        return self._event("response.function_call_arguments.delta", delta=arguments)

    def closed(self, status: Status) -> Iterator[Body]:
        """Yield the events that end it."""
        arguments = "".join(self._arguments)
        yield self._event("response.function_call_arguments.done", name=self._name, arguments=arguments)
        yield {"type": "response.output_item.done", "output_index": self._index, "item": self.json(status)}

    def json(self, status: Status) -> ResponseCall:
        """Return the call as it is by now."""
        return {
            "id": self._id,
            "type": "function_call",
            "status": status,
            "call_id": self._call_id,
            "name": self._name,
            "arguments": "".join(self._arguments),
        }

    def _event(self, kind: str, **data: object) -> Body:
        return {"type": kind, "item_id": self._id, "output_index": self._index, **data}


OpenItem = ReasoningItem | TextItem | OutputCall
"""An item that is being written."""

_FAULTS: Mapping[int, Literal["invalid_prompt", "rate_limit_exceeded"]] = MappingProxyType(
    {400: "invalid_prompt", 429: "rate_limit_exceeded"}
)
"""By status; any other is a server_error. The client library knows no other codes."""


class ResponseWriter:
    """Writes one response: ``start``, ``feed`` for every delta, ``finish``; or ``fail`` at any time."""

    def __init__(self, head: ResponseObject) -> None:
        """``head`` is the response as far as it is known before the answer."""
        self._head = head
        self._output: list[ResponseReasoning | ResponseMessage | ResponseCall] = []
        self._open: OpenItem | None = None
        self._finish = FinishReason.STOP
        self._sent = 0

    @property
    def response(self) -> ResponseObject:
        """The response as it is by now; its output has the items that are closed."""
        return {**self._head, "output": list(self._output)}

    def start(self) -> list[Event]:
        """Return the events in front of the answer."""
        return [self._numbered(self._whole(kind)) for kind in ("response.created", "response.in_progress")]

    def feed(self, delta: TextDelta) -> list[Event]:
        """Return the events of a piece of the answer."""
        self._finish = delta.finish_reason or self._finish
        return list(map(self._numbered, self._take(delta)))

    def finish(self, usage: Usage) -> list[Event]:
        """Return the events after the answer."""
        cut = self._finish is FinishReason.LENGTH
        status: Literal["completed", "incomplete"] = "incomplete" if cut else "completed"
        bodies = [] if self._has_answer else list(self._turn_to(TextItem(self._next_index())))
        bodies += self._close(status)
        self._head = {
            **self._head,
            "status": status,
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "usage": usage_object(usage),
        }
        return [self._numbered(body) for body in (*bodies, self._whole(f"response.{status}"))]

    def fail(self, reply: ErrorReply) -> list[Event]:
        """Return the event that ends a response in which something failed."""
        if self._open is not None:
            self._output.append(self._open.json("incomplete"))
        fault: ResponseFault = {"code": _FAULTS.get(reply.status, "server_error"), "message": reply.message}
        self._head = {**self._head, "status": "failed", "error": fault}
        return [self._numbered(self._whole("response.failed"))]

    @property
    def _has_answer(self) -> bool:
        """Whether there is more than reasoning; where that was cut off, no answer is to come."""
        if isinstance(self._open, ReasoningItem):
            return self._finish is FinishReason.LENGTH
        return self._open is not None or any(item["type"] != "reasoning" for item in self._output)

    def _take(self, delta: TextDelta) -> Iterator[Body]:
        if delta.reasoning:
            thought = self._open if isinstance(self._open, ReasoningItem) else ReasoningItem(self._next_index())
            yield from self._turn_to(thought)
            yield thought.delta(delta.reasoning)
        if delta.text:
            text = self._open if isinstance(self._open, TextItem) else TextItem(self._next_index())
            yield from self._turn_to(text)
            scores = logprobs_object(delta.tokens)
            yield text.delta(delta.text, scores["content"] if scores else [])
        for piece in delta.calls:
            if piece.name:
                yield from self._turn_to(OutputCall(self._next_index(), piece.id, piece.name))
            if piece.arguments:
                assert isinstance(self._open, OutputCall), "arguments without a call"
                yield self._open.delta(piece.arguments)

    def _next_index(self) -> int:
        return len(self._output) + (self._open is not None)

    def _turn_to(self, item: OpenItem) -> Iterator[Body]:
        """Close the item that is open and open ``item``, unless that is the one."""
        if item is not self._open:
            yield from self._close("completed")
            self._open = item
            yield from item.opened()

    def _close(self, status: Status) -> Iterator[Body]:
        if self._open is not None:
            yield from self._open.closed(status)
            self._output.append(self._open.json(status))
            self._open = None

    def _whole(self, kind: str) -> Body:
        return {"type": kind, "response": self.response}

    def _numbered(self, body: Body) -> Event:
        number, self._sent = self._sent, self._sent + 1
        return Event({**body, "sequence_number": number}, str(body["type"]))


def usage_object(usage: Usage) -> ResponseUsage:
    """Return the token counts."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
