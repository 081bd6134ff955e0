"""The items of an answer while they are made: a text, then calls, each with its events from first to last. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from glmserve.api.openai.responses.input_items import new_id
from glmserve.api.openai.responses.response_types import ResponseCall, ResponseMessage, ResponseText, Status

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
