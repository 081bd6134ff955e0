"""The body of a request to ``/v1/messages`` as it comes over the wire. Checked here, then translated once."""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from glmserve.api.anthropic.content_blocks import MessageParam, SystemText
from glmserve.api.anthropic.field_policy import COUNTED, MESSAGES
from glmserve.api.common.base import ApiModel, ListOf, at_most, parse
from glmserve.api.common.numbers import UNLIMITED, AsNumber, AsWhole
from glmserve.api.common.sampling import StopStrings
from glmserve.api.common.structured_output import Schema
from glmserve.api.common.tools import own_tools_only
from glmserve.chat.tools.types import MAX_TOOLS

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


class PromptRequest(ApiModel):
    """The fields that a prompt is made from."""

    model_config = ConfigDict(json_schema_extra=COUNTED.complete)

    model: str | None = None
    messages: ListOf[MessageParam]
    """May be empty beside a ``system`` text, which is then answered."""
    system: SystemText | None = None
    tools: Annotated[ListOf[OfferedTool], at_most(MAX_TOOLS)] | None = None
    tool_choice: Annotated[ToolChoiceParam, BeforeValidator(_choice)] | None = None
    output_config: OutputConfig | None = None


class MessagesRequest(PromptRequest):
    """The supported fields; ``field_policy.py`` has the policy of all others."""

    model_config = ConfigDict(json_schema_extra=MESSAGES.complete)

    max_tokens: Annotated[int, Field(ge=UNLIMITED), AsWhole, AfterValidator(lambda value: value if value > 0 else _ANY)]
    """-1 and 0 allow all the tokens that the context leaves."""
    temperature: Annotated[float, Field(ge=0, le=1), AsNumber] | None = None
    top_p: Annotated[float, Field(ge=0, le=1), AsNumber] | None = None
    top_k: Annotated[int, Field(ge=0, lt=2**31), AsWhole] | None = None
    stop_sequences: StopStrings = ()
    stream: bool | None = None


def parse_messages_request(body: Mapping[str, object]) -> MessagesRequest:
    """Return the body as a checked request.

    Raises:
        InvalidRequest: a field is refused or has a wrong value; ``param`` is its path.
    """
    MESSAGES.check(body)
    return parse(MessagesRequest, body)


def parse_count_request(body: Mapping[str, object]) -> PromptRequest:
    """Return the body of a request to count tokens. Raises InvalidRequest."""
    COUNTED.check(body)
    return parse(PromptRequest, body)
