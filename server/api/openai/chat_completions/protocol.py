"""The body of a chat request as it comes over the wire. Checked here, then translated once and forgotten."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from glmserve.api.common.base import ApiModel, ListOf, TextContent, parse
from glmserve.api.common.numbers import AsWhole, TokenLimit
from glmserve.api.common.sampling import CacheFields, SamplingFields, StreamOptions
from glmserve.api.common.structured_output import GrammarFields
from glmserve.api.common.tools import EarlierCall, FunctionCall, ToolFields
from glmserve.api.openai.chat_completions.field_policy import CHAT, check_chat_fields
from glmserve.engine.params import MAX_LOGPROBS
from glmserve.http.errors import InvalidRequest

_NEEDED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"assistant": (), "tool": ("content", "tool_call_id"), "function": ("content", "name")}
)
"""Of other roles, the content alone."""
_CALLS = ("tool_calls", "function_call")


class ChatMessage(ApiModel):
    """One message; fields that only label it are left out."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: TextContent = ""
    tool_calls: ListOf[EarlierCall] | None = None
    tool_call_id: str | None = None
    function_call: FunctionCall | None = None
    name: str | None = None
    """Of a function's message: which one gave it. Elsewhere it only labels."""
    refusal: str | None = None
    """Refusal that an earlier answer had in place of content."""
    prefix: bool | None = None
    """Of the last message: the answer goes on with it. So DeepSeek and Mistral spell ``continue_final_message``."""
    partial: bool | None = None
    """The same, as Moonshot and Qwen spell it."""


class ChatRequest(SamplingFields, CacheFields, GrammarFields, ToolFields):
    """The supported fields; ``field_policy.py`` has the policy of all others."""

    model_config = ConfigDict(json_schema_extra=CHAT.complete)

    model: str | None = None
    messages: Annotated[ListOf[ChatMessage], Field(min_length=1)]
    max_tokens: TokenLimit = None
    max_completion_tokens: TokenLimit = None
    n: Annotated[int, Field(ge=1), AsWhole] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS), AsWhole] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    timings: bool | None = None
    do_sample: bool | None = None
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None

    @property
    def is_continued(self) -> bool:
        """Whether the answer goes on with the last message, the assistant's."""
        last = self.messages[-1]
        return bool(self.continue_final_message or last.prefix or last.partial)


def parse_chat_request(body: Mapping[str, object]) -> ChatRequest:
    """Return the body as a checked request.

    Raises:
        InvalidRequest: a field is refused or has a wrong value; ``param`` is its path.
    """
    check_chat_fields(body)
    request = parse(ChatRequest, body)
    if request.top_logprobs and not request.logprobs:
        raise InvalidRequest("top_logprobs needs logprobs to be true", param="top_logprobs")
    _check_contents(body)
    return request


def _check_contents(body: Mapping[str, object]) -> None:
    """Refuse a message without the fields of its role: null is empty on purpose, but an absent key is a mistake."""
    messages = body["messages"]
    for index, message in enumerate(messages if isinstance(messages, list) else []):
        role = message["role"]
        for key in _NEEDED.get(role, ("content",)):
            if key not in message or (key != "content" and message[key] is None):
                path = f"messages[{index}].{key}"
                raise InvalidRequest(f"{path} is required", param=path, code="missing_required_parameter")
        for key in _CALLS:
            if role != "assistant" and message.get(key):
                path = f"messages[{index}].{key}"
                raise InvalidRequest(f"{path}: only messages of the assistant may have calls, not {role}", param=path)
