"""The body of a chat request as it comes over the wire. Checked here, then translated once and forgotten."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal, TypeVar

from pydantic import BeforeValidator, Field

from glmserve.api.common.base import ApiModel, ListOf, RequestObject, TextContent, parse
from glmserve.api.common.fields import AnswerCount, ModelName, Stream, StreamOptionsField
from glmserve.api.common.numbers import AsWhole, TokenLimit
from glmserve.api.common.sampling import CacheFields, SamplingFields
from glmserve.api.common.structured_output import GrammarFields
from glmserve.api.common.tools import EarlierCall, FunctionCall, ToolFields
from glmserve.api.openai.chat_completions.field_policy import CHAT, check_messages
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
    """Of the last message: continue it in the answer. So DeepSeek and Mistral spell ``continue_final_message``."""
    partial: bool | None = None
    """The same, as Moonshot and Qwen spell it."""


class ChatRequest(SamplingFields, CacheFields, GrammarFields, ToolFields, RequestObject):
    """Body of a chat completion."""

    policy = CHAT

    model: ModelName = None
    messages: Annotated[ListOf[ChatMessage], Field(min_length=1), BeforeValidator(check_messages)] = Field(
        description="Roles: system, developer, user, assistant, tool, function. content is a string, an array of text "
        "parts, or null.",
    )
    max_tokens: TokenLimit = None
    max_completion_tokens: TokenLimit = Field(
        default=None, description="Newer name of max_tokens; takes precedence over it."
    )
    n: AnswerCount = None
    logprobs: bool | None = Field(
        default=None, description="Return log-probabilities, computed before penalties and temperature are applied."
    )
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS), AsWhole] | None = Field(
        default=None, description="Number of most likely tokens to list at each position. Needs logprobs."
    )
    stream: Stream = None
    stream_options: StreamOptionsField = None
    timings: bool | None = Field(
        default=None, description="Extension (llama-server). Add the engine's times to the reply, or to the last chunk."
    )
    do_sample: bool | None = Field(
        default=None, description="Extension (Zhipu's SDKs). false: always select the most likely token."
    )
    continue_final_message: bool | None = Field(
        default=None,
        description="Extension. The answer continues the last message. prefix or partial in that message do the same.",
    )
    add_generation_prompt: bool | None = Field(
        default=None, description="Extension. false is accepted only together with continue_final_message."
    )

    @property
    def is_continued(self) -> bool:
        """Whether the answer continues the last message, the assistant's."""
        last = self.messages[-1]
        return bool(self.continue_final_message or last.prefix or last.partial)


_Chat = TypeVar("_Chat", bound=ChatRequest)


def parse_chat_request(body: Mapping[str, object]) -> ChatRequest:
    """Return the body as a checked request. Raises as ``parse_chat_as`` does."""
    return parse_chat_as(ChatRequest, body)


def parse_chat_as(kind: type[_Chat], body: Mapping[str, object]) -> _Chat:
    """Return the body as a checked ``kind`` of chat request.

    Raises:
        InvalidRequest: a field is rejected or has a wrong value; ``param`` is its path.
    """
    request = parse(kind, body)
    if request.top_logprobs and not request.logprobs:
        raise InvalidRequest("top_logprobs needs logprobs to be true", param="top_logprobs")
    _check_contents(body)
    return request


def _check_contents(body: Mapping[str, object]) -> None:
    """Reject a message without the fields of its role: null is empty on purpose, but an absent key is a mistake."""
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
