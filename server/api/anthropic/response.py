"""Anthropic's replies: their types, errors, and a message while it is made.

The deltas of an answer come in, the events and the message go out; a message that is not streamed is made the same way.
Pure.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Literal

from typing_extensions import NotRequired, TypedDict

from glmserve.chat.tools.types import CallDelta, ToolCall
from glmserve.engine.messages import FinishReason
from glmserve.generation.generation import Usage
from glmserve.generation.output_processor import TextDelta
from glmserve.http.error_replies import THREAD_NOT_FOUND, ErrorReply
from glmserve.http.request_record import current_request
from glmserve.http.sse import Event

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded"]
FaultType = Literal[
    "invalid_request_error", "authentication_error", "permission_error", "not_found_error", "rate_limit_error",
    "timeout_error", "api_error", "overloaded_error",
]  # fmt: skip


class TextBlock(TypedDict):
    """Text that the model generated."""

    type: Literal["text"]
    text: str
    citations: None


class ThinkingBlock(TypedDict):
    """Reasoning of the model before its text."""

    type: Literal["thinking"]
    thinking: str
    signature: str


class ToolUseBlock(TypedDict):
    """A tool that the model calls."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, object]


class MessageUsage(TypedDict):
    """Token counts; the prompt has all three kinds of input tokens together."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int


class MessageObject(TypedDict):
    """An answer; a streamed one is known from its beginning."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[ThinkingBlock | TextBlock | ToolUseBlock]
    stop_reason: StopReason | None
    stop_sequence: str | None
    usage: MessageUsage


class MessageEvent(TypedDict):
    """The data of an event: its kind, and the fields of that."""

    type: Literal[
        "message_start", "ping", "content_block_start", "content_block_delta", "content_block_stop", "message_delta",
        "message_stop", "error",
    ]  # fmt: skip


class CountedTokens(TypedDict):
    """How many tokens a prompt has."""

    input_tokens: int


class FaultDetails(TypedDict):
    """The kind of an error, by which a client decides."""

    error_code: str


class MessageFault(TypedDict):
    """Type and message of an error."""

    type: FaultType
    message: str
    details: NotRequired[FaultDetails]


class MessageFailure(TypedDict):
    """Anthropic's error reply."""

    type: Literal["error"]
    error: MessageFault
    request_id: str


_TYPES: Mapping[int, FaultType] = MappingProxyType(
    {
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        408: "timeout_error",
        429: "rate_limit_error",
        503: "overloaded_error",
        504: "timeout_error",
    }
)
"""By status; any other is an invalid request below 500, and the server's fault from there on."""


def failure(reply: ErrorReply) -> MessageFailure:
    """Return the error reply; clients read its type and the status."""
    usual: FaultType = "invalid_request_error" if reply.status < 500 else "api_error"
    error_type = _TYPES.get(reply.status, usual)
    fault: MessageFault = {"type": error_type, "message": reply.message}
    if reply.code == THREAD_NOT_FOUND:
        fault["details"] = {"error_code": THREAD_NOT_FOUND}
    return {
        "type": "error",
        "error": fault,
        "request_id": current_request().id,
    }


Body = Mapping[str, object]
"""The data of an event."""


class MessageWriter:
    """Writes one message: ``feed`` for every delta, then ``finish``."""

    def __init__(self, message_id: str, model: str, *, is_cut_to_context: bool, thinks: bool = False) -> None:
        """Begin with nothing.

        Args:
            message_id: its id.
            model: its model.
            is_cut_to_context: the context leaves fewer tokens than the request allows.
            thinks: reasoning is part of the message.
        """
        self._thinks = thinks
        self._id = message_id
        self._model = model
        self._is_cut_to_context = is_cut_to_context
        self._content: list[ThinkingBlock | TextBlock | ToolUseBlock] = []
        self._open: _Thought | _Text | _Call | None = None
        self._started = False
        self._last = TextDelta(0, "")
        self._called = False

    def feed(self, delta: TextDelta, usage: Usage) -> list[Event]:
        """Return the events of a piece of the answer; ``usage`` is sent before the first."""
        self._last = delta
        bodies = [] if self._started else list(self._start(usage))
        self._started = True
        return [Event(body, str(body["type"])) for body in (*bodies, *self._take(delta))]

    def finish(self, usage: Usage) -> list[Event]:
        """Return the events after the answer."""
        outcome = {"stop_reason": self._stop_reason(), "stop_sequence": self._last.stop}
        bodies = [*self._close(), {"type": "message_delta", "delta": outcome, "usage": usage_object(usage)}]
        return [Event(body, str(body["type"])) for body in (*bodies, {"type": "message_stop"})]

    def message(self, usage: Usage) -> MessageObject:
        """Return the whole message, after ``finish``."""
        return {**self._head(usage), "stop_reason": self._stop_reason(), "stop_sequence": self._last.stop}

    def _head(self, usage: Usage) -> MessageObject:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": list(self._content),
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage_object(usage),
        }

    def _stop_reason(self) -> StopReason:
        if self._last.finish_reason is FinishReason.LENGTH:
            return "model_context_window_exceeded" if self._is_cut_to_context else "max_tokens"
        if self._last.stop is not None:
            return "stop_sequence"
        return "tool_use" if self._called else "end_turn"

    def _start(self, usage: Usage) -> Iterator[Body]:
        yield {"type": "message_start", "message": self._head(usage)}
        yield {"type": "ping"}

    def _take(self, delta: TextDelta) -> Iterator[Body]:
        if delta.reasoning and self._thinks:
            thought = self._open if isinstance(self._open, _Thought) else _Thought()
            yield from self._turn_to(thought)
            yield self._delta(thought.add(delta.reasoning))
        if delta.text:
            text = self._open if isinstance(self._open, _Text) else _Text()
            yield from self._turn_to(text)
            yield self._delta(text.add(delta.text))
        for piece in delta.calls:
            if piece.name:
                self._called = True
                yield from self._turn_to(_Call(piece))
            if piece.arguments:
                assert isinstance(self._open, _Call), "arguments without a call"
                yield self._delta(self._open.add(piece.arguments))

    def _turn_to(self, block: "_Thought | _Text | _Call") -> Iterator[Body]:
        """Close the block that is open and open ``block``, unless that is the one."""
        if block is not self._open:
            yield from self._close()
            self._open = block
            yield {"type": "content_block_start", "index": len(self._content), "content_block": block.json()}

    def _close(self) -> Iterator[Body]:
        if isinstance(self._open, _Thought):
            yield self._delta(self._open.sign())
        if self._open is not None:
            yield {"type": "content_block_stop", "index": len(self._content)}
            self._content.append(self._open.json())
            self._open = None

    def _delta(self, delta: Body) -> Body:
        return {"type": "content_block_delta", "index": len(self._content), "delta": delta}


class _Thought:
    """A block of reasoning."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._signature = ""

    def add(self, text: str) -> Body:
        self._text.append(text)
        return {"type": "thinking_delta", "thinking": text}

    def sign(self) -> Body:
        """End it. Clients send a signature back with the text; it shows that the text is whole, and nothing else."""
        digest = hashlib.blake2b("".join(self._text).encode("utf-8", "surrogatepass"), digest_size=24).digest()
        self._signature = base64.b64encode(digest).decode()
        return {"type": "signature_delta", "signature": self._signature}

    def json(self) -> ThinkingBlock:
        return {"type": "thinking", "thinking": "".join(self._text), "signature": self._signature}


class _Text:
    """A block of text."""

    def __init__(self) -> None:
        self._text: list[str] = []

    def add(self, text: str) -> Body:
        self._text.append(text)
        return {"type": "text_delta", "text": text}

    def json(self) -> TextBlock:
        return {"type": "text", "text": "".join(self._text), "citations": None}


class _Call:
    """A call of a tool."""

    def __init__(self, start: CallDelta) -> None:
        self._start = start
        self._arguments: list[str] = []

    def add(self, arguments: str) -> Body:
        self._arguments.append(arguments)
        return {"type": "input_json_delta", "partial_json": arguments}

    def json(self) -> ToolUseBlock:
        """Return the block. Of a call that was cut off there is no input: half of a JSON text is none."""
        call = ToolCall(self._start.id, self._start.name, "".join(self._arguments))
        return {"type": "tool_use", "id": call.id, "name": call.name, "input": call.parsed() or {}}


def usage_object(usage: Usage) -> MessageUsage:
    """Return the token counts."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }
