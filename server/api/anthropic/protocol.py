"""The body of a request to ``/v1/messages``: its fields, and their translation to the parameters of all dialects."""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from glmserve.api.anthropic.content_blocks import MessageParam, SystemText, to_messages
from glmserve.api.common.base import ApiModel, AtMost, ListOf, RequestObject, parse
from glmserve.api.common.field_policy import FieldPolicy, Ignored, Rejected
from glmserve.api.common.fields import (
    TEMPERATURE,
    TOP_P,
    UNLIMITED,
    AsNumber,
    AsWhole,
    ModelName,
    SamplingFields,
    StopStrings,
    Stream,
    to_sampling,
)
from glmserve.api.common.structured_output import Schema, schema_grammar
from glmserve.api.common.tools import (
    FunctionDefinition,
    RequestedChoice,
    check_no_call_is_due,
    own_tools_only,
    tool_config,
)
from glmserve.chat.prompts.messages import Message, Role
from glmserve.chat.tools.types import MAX_TOOLS, ToolConfig
from glmserve.engine.params import Grammar
from glmserve.generation.prepare import AnswerParams, ChatParams, PromptParams
from glmserve.http.errors import InvalidRequest, ThreadNotFound
from glmserve.model_pool.served_model import ModelCard

_IGNORED = (
    Ignored("metadata"),
    Ignored("context_management", "the server never shortens the context"),
    Ignored("cache_control", "prefixes are always cached"),
    Ignored("service_tier"),
    Ignored("inference_geo"),
    Ignored("diagnostics"),
    Ignored("speed"),
    Ignored("user_profile_id"),
    Ignored("workspace_id"),
)
_REJECTED = (
    Rejected("container"),
    Rejected("mcp_servers"),
    Rejected("max_tokens_to_sample", (), "use max_tokens"),
    Rejected("prompt", (), "use messages"),
    Rejected("stop", (), "use stop_sequences"),
)

MESSAGES = FieldPolicy(_IGNORED, _REJECTED)
"""The fields of a request for a message that are not supported."""

_OF_THE_ANSWER = ("max_tokens", "temperature", "top_p", "top_k", "stop_sequences", "stream")

COUNTED = FieldPolicy((*_IGNORED, *(Ignored(name, "it concerns the answer") for name in _OF_THE_ANSWER)), _REJECTED)
"""The same for ``/v1/messages/count_tokens``, where fields about the answer have no effect."""


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


ToolItem = Annotated[
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


class ThinkingParam(ApiModel):
    """``thinking``."""

    type: Literal["enabled", "adaptive", "disabled"]
    budget_tokens: int | None = None
    display: Literal["summarized", "omitted"] | None = None


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
        description="Roles: user, assistant, system. Blocks: text, tool_use, tool_result, documents of text, thinking. "
        "May be empty if system is not."
    )
    system: SystemText | None = Field(default=None, description="System message: a string or blocks of text.")
    tools: Annotated[ListOf[ToolItem], AtMost(MAX_TOOLS)] | None = Field(
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
    thinking: ThinkingParam | None = Field(
        default=None,
        description="enabled or adaptive: the reasoning of a model that writes it comes as thinking blocks. disabled "
        "also sets enable_thinking of its chat template to false. budget_tokens and display have no effect.",
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


def to_params(body: MessagesRequest, card: ModelCard) -> ChatParams:
    """Return the parameters of ``body`` for the model of ``card``. Raises as ``to_prompt_params`` does."""
    prompt = to_prompt_params(body)
    fields = SamplingFields(temperature=body.temperature, top_p=body.top_p, top_k=body.top_k)
    answer = AnswerParams(to_sampling(fields, card), body.max_tokens, grammar=_grammar(body), stop=body.stop_sequences)
    return ChatParams(prompt, answer)


def to_prompt_params(body: PromptRequest) -> PromptParams:
    """Return the part of the parameters that the prompt is made from.

    Raises:
        InvalidRequest: its fields contradict each other, or a block is not supported.
        ToolError: a tool is not acceptable.
    """
    messages, tools = _messages(body), _tool_config(body)
    if not messages:
        raise InvalidRequest("messages must not be empty", param="messages")
    continued = messages[-1].role is Role.ASSISTANT
    if continued and messages[-1].tool_calls:
        raise InvalidRequest("the results of the last message's tools are missing after it", param="messages")
    if continued:
        check_no_call_is_due(tools, "tool_choice")
    thinking = body.thinking
    options = {"enable_thinking": False} if thinking is not None and thinking.type == "disabled" else {}
    return PromptParams(tuple(messages), tools, continued, options=options)


def _grammar(body: MessagesRequest) -> Grammar | None:
    requested = None if body.output_config is None else body.output_config.format
    return None if requested is None else schema_grammar(requested.json_schema, "output_config.format.schema")


def _messages(body: PromptRequest) -> list[Message]:
    messages = [Message(Role.SYSTEM, body.system)] if body.system else []
    for index, given in enumerate(body.messages):
        messages += to_messages(given, f"messages[{index}]")
    return messages


def _tool_config(body: PromptRequest) -> ToolConfig | None:
    functions = [
        FunctionDefinition(
            name=tool.name, description=tool.description, parameters=tool.input_schema, strict=tool.strict
        )
        for tool in body.tools or ()
        if tool is not None
    ]
    requested = body.tool_choice
    if requested is None:
        return tool_config(functions, None, "tool_choice", parallel=True)
    if requested.type == "tool" and requested.name is None:
        path = "tool_choice.name"
        raise InvalidRequest(f"{path} is required", param=path, code="missing_required_parameter")
    choice = {
        "auto": RequestedChoice(mode="auto"),
        "any": RequestedChoice(mode="required"),
        "tool": RequestedChoice(mode="required", allowed=(requested.name or "",)),
        "none": RequestedChoice(mode="none"),
    }[requested.type]
    return tool_config(functions, choice, "tool_choice", parallel=not requested.disable_parallel_tool_use)
