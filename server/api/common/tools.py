"""Tools in a request: definitions, the choice among them, and earlier calls."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from glmserve.api.common.base import ApiModel, Arguments, AtMost, ListOf, invalid, parse
from glmserve.chat.tools.types import (
    MAX_TOOLS,
    NAME_PATTERN,
    Tool,
    ToolChoice,
    ToolConfig,
    check_total_size,
    make_tool,
    make_tool_config,
)
from glmserve.http.errors import InvalidRequest, shown
from glmserve.http.request_record import IGNORED_TOOLS, current_request

FunctionName = Annotated[str, Field(pattern=NAME_PATTERN)]


def _function_type(value: object) -> object:
    if value != "function":
        raise invalid(f"{shown(value)} is not supported by this server; only function is supported")
    return value


FunctionType = Annotated[
    Literal["function"], BeforeValidator(_function_type, json_schema_input_type=Literal["function"])
]


def own_tools_only(tool: object, own: str = "function") -> object:
    """Return ``tool``, or None if its type is not ``own``: it is left out, and a header reports it.

    Such tools are run by the server of their vendor, or are called in a form of that vendor's models.
    """
    kind = tool.get("type") if isinstance(tool, dict) else None
    if not isinstance(tool, dict) or not isinstance(kind, str) or kind == own:
        return tool
    name = tool.get("name")
    current_request().list_in(IGNORED_TOOLS, name if isinstance(name, str) and name else kind)
    return None


class FunctionDefinition(ApiModel):
    """A function, as ``tools`` and the older ``functions`` have it."""

    name: str
    description: str | None = None
    parameters: dict[str, object] | None = None
    strict: bool | None = None
    """The grammar enforces the schema of calls in any case. True: reject what it cannot enforce."""


class ToolDefinition(ApiModel):
    """One of ``tools``."""

    type: FunctionType
    function: FunctionDefinition


ToolItem = Annotated[
    ToolDefinition | None, BeforeValidator(own_tools_only, json_schema_input_type=ToolDefinition | dict[str, object])
]
"""One of ``tools``; None for one that cannot be had here."""


class FunctionCall(ApiModel):
    """Name and arguments of an earlier call."""

    name: FunctionName
    arguments: Arguments = ""


class EarlierCall(ApiModel):
    """One of an assistant's ``tool_calls``."""

    id: Annotated[str, Field(min_length=1)]
    type: FunctionType = "function"
    function: FunctionCall


class RequestedChoice(ApiModel):
    """``tool_choice`` or ``function_call``, translated."""

    mode: Literal["none", "auto", "required"]
    allowed: tuple[str, ...] | None = None


class _Named(ApiModel):
    name: str


class _NamedTool(ApiModel):
    type: FunctionType = "function"
    function: _Named


class _AllowedTools(ApiModel):
    mode: Literal["auto", "required"]
    tools: Annotated[ListOf[_NamedTool], Field(min_length=1), AtMost(MAX_TOOLS)]


class _AllowedChoice(ApiModel):
    type: Literal["allowed_tools"]
    allowed_tools: _AllowedTools


_Mode = Literal["none", "auto", "required"]


_MODES: Mapping[object, _Mode] = MappingProxyType(
    {"none": "none", "auto": "auto", "required": "required", "any": "required"}
)
"""``any`` is Mistral's and Anthropic's name for ``required``."""


def choice_mode(value: object) -> RequestedChoice | None:
    """Return a tool choice given as a word or as an object of that type; None for any other value."""
    kind = value.get("type") if isinstance(value, dict) else value
    return RequestedChoice(mode=_MODES[kind]) if isinstance(kind, str) and kind in _MODES else None


def _tool_choice(value: object) -> object:
    mode = choice_mode(value)
    if mode is not None:
        return mode
    if isinstance(value, dict) and value.get("type") == "allowed_tools":
        choice = parse(_AllowedChoice, value, "tool_choice").allowed_tools
        return RequestedChoice(mode=choice.mode, allowed=tuple(tool.function.name for tool in choice.tools))
    if isinstance(value, dict):
        if value.get("type") in ("function", "tool") and "name" in value:
            value = {"type": "function", "function": {"name": value["name"]}}
        return RequestedChoice(mode="required", allowed=(parse(_NamedTool, value, "tool_choice").function.name,))
    raise invalid("must be none, auto, required, or an object that names a function")


def _function_choice(value: object) -> object:
    if isinstance(value, str) and value in ("none", "auto"):
        return RequestedChoice.model_validate({"mode": value})
    if isinstance(value, dict):
        return RequestedChoice(mode="required", allowed=(parse(_Named, value, "function_call").name,))
    raise invalid("must be none, auto, or an object with the name of a function")


_ToolChoice = Annotated[
    RequestedChoice, BeforeValidator(_tool_choice, json_schema_input_type=_Mode | _NamedTool | _AllowedChoice)
]
_FunctionChoice = Annotated[
    RequestedChoice, BeforeValidator(_function_choice, json_schema_input_type=Literal["none", "auto"] | _Named)
]


TOOLS = "Callable functions. Tools of other types are ignored; the header x-glmserve-ignored-tools names them."
TOOL_CHOICE = "Whether and which functions the model calls. any is the same as required."
PARALLEL_CALLS = "false: at most one call in an answer. true (default): up to 8 if the model family supports it."


class ToolFields(ApiModel):
    """The fields about tools, the older ones about functions among them."""

    tools: Annotated[ListOf[ToolItem], AtMost(MAX_TOOLS)] | None = Field(default=None, description=TOOLS)
    tool_choice: _ToolChoice | None = Field(default=None, description=TOOL_CHOICE)
    parallel_tool_calls: bool | None = Field(default=None, description=PARALLEL_CALLS)
    functions: Annotated[ListOf[FunctionDefinition], AtMost(MAX_TOOLS)] | None = Field(
        default=None, description="Older name of tools. The answer then has function_call."
    )
    function_call: _FunctionChoice | None = Field(default=None, description="Older name of tool_choice.")

    @property
    def has_functions(self) -> bool:
        """Whether it is written in the older fields, and is to be answered so."""
        return bool(self.functions)


def to_tool_config(fields: ToolFields) -> ToolConfig | None:
    """Return the tools that may be called, or None.

    Raises:
        InvalidRequest: the fields contradict each other.
        ToolError: a tool is not acceptable.
    """
    if fields.tools and fields.functions:
        raise InvalidRequest("functions is the deprecated name of tools; send one of them", param="functions")
    if fields.functions:
        return tool_config(fields.functions, fields.function_call, "function_call", parallel=False)
    functions = [tool.function for tool in fields.tools or () if tool is not None]
    return tool_config(functions, fields.tool_choice, "tool_choice", parallel=fields.parallel_tool_calls is not False)


def tool_config(
    functions: Sequence[FunctionDefinition], choice: RequestedChoice | None, field: str, *, parallel: bool
) -> ToolConfig | None:
    """Return the functions that may be called, or None.

    Args:
        functions: all that there are.
        choice: which of them, and whether one has to be; None leaves it to the model.
        field: where the request says so.
        parallel: whether one answer may have several calls.

    Raises:
        InvalidRequest: the choice asks for what is not there.
        ToolError: a tool is not acceptable.
    """
    if not functions and choice is None:
        return None
    requested = choice or RequestedChoice(mode="auto")
    if requested.mode == "none":
        functions = [one.model_copy(update={"parameters": None}) for one in functions]
    check_total_size([one.parameters for one in functions])
    tools = tuple(map(_tool, functions))
    if not tools and requested.mode == "required":
        raise InvalidRequest(f"{field} requires a call, but there are no functions", param=field)
    allowed = None if requested.allowed is None else frozenset(requested.allowed)
    unknown = sorted((allowed or frozenset()) - {tool.name for tool in tools})
    if unknown:
        raise InvalidRequest(f"{field} names {shown(unknown[0])}, which is not among the functions", param=field)
    if not tools or requested.mode == "none":
        return None
    return make_tool_config(tools, ToolChoice(requested.mode), allowed, parallel=parallel)


def _tool(function: FunctionDefinition) -> Tool:
    tool, left_out = make_tool(
        function.name, function.description or "", function.parameters, strict=bool(function.strict)
    )
    for path in left_out:
        current_request().relax(f"{tool.name}: {path}")
    return tool


def check_no_call_is_due(config: ToolConfig | None, field: str) -> None:
    """Check a continued answer: it has no calls, though its prompt may contain tools.

    Raises:
        InvalidRequest: ``config`` asks for a call in ``field``.
    """
    if config is not None and config.choice is ToolChoice.REQUIRED:
        raise InvalidRequest(
            f"{field} requires a call, but a continued answer remains text: end with the user's "
            "message, or leave the choice to the model",
            param=field,
        )
