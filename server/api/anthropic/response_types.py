"""Types of the replies, checked by mypy and published in ``/openapi.json``."""

from typing import Literal

from typing_extensions import NotRequired, TypedDict

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
    content: list[TextBlock | ToolUseBlock]
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
    """What a client decides by."""

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
