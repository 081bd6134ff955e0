"""The body of a request to ``/v1/messages`` as it comes over the wire. Checked here, then translated once."""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from glmserve.api.anthropic.content_blocks import MessageParam, SystemText
from glmserve.api.anthropic.field_policy import COUNTED, MESSAGES
from glmserve.api.common.base import ApiModel, AtMost, ListOf, RequestObject, parse
from glmserve.api.common.fields import TEMPERATURE, TOP_P, ModelName, Stream
from glmserve.api.common.numbers import UNLIMITED, AsNumber, AsWhole
from glmserve.api.common.sampling import StopStrings
from glmserve.api.common.structured_output import Schema
from glmserve.api.common.tools import own_tools_only
from glmserve.chat.tools.types import MAX_TOOLS
from glmserve.http.errors import ThreadNotFound

_ANY = 2**31
"""More tokens than any context has."""


def _choice(value: object) -> object:
    """Return a choice that is named by its type alone as the object that it should be."""
    return {"type": "any" if value == "required" else value} if isinstance(value, str) else value


class ToolParam(ApiModel):
    """One of ``tools``."""

    type: Literal["custom"] | None = None
    name: str
    description: str | None = None
    input_schema: dict[str, object]
    strict: bool | None = None


OfferedTool = Annotated[
    ToolParam | None,
    BeforeValidator(partial(own_tools_only, own="custom"), json_schema_input_type=ToolParam | dict[str, object]),
]
"""One of ``tools``; None for one of Anthropic's own, which cannot be had here."""


class ToolChoiceParam(ApiModel):
    """``tool_choice``."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class OutputFormat(ApiModel):
    """``output_config.format``."""

    type: Literal["json_schema"]
    json_schema: Annotated[Schema, Field(alias="schema")]


class OutputConfig(ApiModel):
    """``output_config``."""

    format: OutputFormat | None = None


class ThreadParam(ApiModel):
    """``thread``: a conversation that Anthropic's servers store."""

    type: Literal["create", "continue"]
    previous_message_id: str | None = None


def _new_thread(thread: ThreadParam | None) -> ThreadParam | None:
    """Reject the continuation of a thread, as none is stored: its client then sends the whole conversation.

    Raises:
        ThreadNotFound: the request has only the new messages of a thread.
    """
    if thread is not None and thread.type == "continue":
        raise ThreadNotFound(thread.previous_message_id or "")
    return thread


class PromptRequest(RequestObject):
    """Body of a request to count tokens: the fields that define a prompt."""

    policy = COUNTED

    model: ModelName = None
    messages: ListOf[MessageParam] = Field(
        description="Roles: user, assistant, system. Blocks: text, tool_use, tool_result, documents of text; thinking "
        "is dropped. May be empty if system is not."
    )
    system: SystemText | None = Field(default=None, description="System message: a string or blocks of text.")
    tools: Annotated[ListOf[OfferedTool], AtMost(MAX_TOOLS)] | None = Field(
        default=None,
        description="Custom tools that the model can call. Anthropic's own tools are ignored; the header "
        "x-glmserve-ignored-tools names them.",
    )
    tool_choice: Annotated[ToolChoiceParam, BeforeValidator(_choice)] | None = Field(
        default=None, description="auto, any, tool or none, with disable_parallel_tool_use."
    )
    output_config: OutputConfig | None = Field(
        default=None, description="format: a json_schema that the answer follows. effort has no effect."
    )
    thread: Annotated[ThreadParam | None, AfterValidator(_new_thread)] = Field(
        default=None,
        description="create has no effect, as threads are not stored. continue is a 404 thread_not_found, after which "
        "Anthropic's SDKs send the whole conversation.",
    )


class MessagesRequest(PromptRequest):
    """Body of a request for a message."""

    policy = MESSAGES

    max_tokens: Annotated[
        int, Field(ge=UNLIMITED), AsWhole, AfterValidator(lambda value: value if value > 0 else _ANY)
    ] = Field(
        description="Token limit of the answer, reduced to the space left in the context. -1 and 0: all of that space."
    )
    temperature: Annotated[float, Field(ge=0, le=1), AsNumber] | None = Field(default=None, description=TEMPERATURE)
    top_p: Annotated[float, Field(ge=0, le=1), AsNumber] | None = Field(default=None, description=TOP_P)
    top_k: Annotated[int, Field(ge=0, lt=2**31), AsWhole] | None = Field(
        default=None, description="Sample from the k most likely tokens. 0 disables the limit."
    )
    stop_sequences: StopStrings = Field(
        default=(), description="Strings that end the answer; stop_sequence of the reply is the one that ended it."
    )
    stream: Stream = None


def parse_messages_request(body: Mapping[str, object]) -> MessagesRequest:
    """Return the body as a checked request.

    Raises:
        InvalidRequest: a field is rejected or has a wrong value; ``param`` is its path.
    """
    return parse(MessagesRequest, body)


def parse_count_request(body: Mapping[str, object]) -> PromptRequest:
    """Return the body of a request to count tokens. Raises InvalidRequest."""
    return parse(PromptRequest, body)
