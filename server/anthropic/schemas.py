"""The body of a request to ``/v1/messages`` as it comes over the wire. Checked here, then translated once."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from server.anthropic.blocks import BlockText, MessageParam
from server.anthropic.fields import COUNTED, MESSAGES
from server.errors import shown
from server.openai.checked import Wire, invalid, parse
from server.openai.grammars import Schema
from server.openai.sampling import StopStrings


def _tool_type(value: object) -> object:
    if value not in (None, "custom"):
        raise invalid(f"{shown(value)} is a tool that a server would run, which this one does not")
    return value


class ToolParam(Wire):
    """One of ``tools``."""

    type: Annotated[
        Literal["custom"] | None, BeforeValidator(_tool_type, json_schema_input_type=Literal["custom"] | None)
    ] = None
    name: str
    description: str | None = None
    input_schema: dict[str, object]


class ToolChoiceParam(Wire):
    """``tool_choice``."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class OutputFormat(Wire):
    """``output_config.format``."""

    type: Literal["json_schema"]
    json_schema: Annotated[Schema, Field(alias="schema")]


class OutputConfig(Wire):
    """``output_config``."""

    format: OutputFormat | None = None


class PromptRequest(Wire):
    """The fields that a prompt is made from."""

    model_config = ConfigDict(json_schema_extra=COUNTED.complete)

    model: str | None = None
    messages: list[MessageParam]
    """May be empty beside a ``system`` text, which is then what is answered."""
    system: BlockText | None = None
    tools: list[ToolParam] | None = None
    tool_choice: ToolChoiceParam | None = None
    output_config: OutputConfig | None = None


class MessagesRequest(PromptRequest):
    """The fields that are honoured; ``fields.py`` says what becomes of all others."""

    model_config = ConfigDict(json_schema_extra=MESSAGES.complete)

    max_tokens: Annotated[int, Field(ge=1)]
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, lt=2**31)] | None = None
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
