"""Tools as the Responses API has them: flat, where chat completions wrap a function in a tool."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from glmserve.api.common.base import ApiModel, AtMost, ListOf, invalid, parse
from glmserve.api.common.tools import (
    PARALLEL_CALLS,
    TOOL_CHOICE,
    TOOLS,
    FunctionDefinition,
    FunctionType,
    RequestedChoice,
    choice_mode,
    own_tools_only,
    tool_config,
)
from glmserve.chat.tools.types import MAX_TOOLS, ToolConfig

_Mode = Literal["none", "auto", "required"]


class _Typed(ApiModel):
    type: FunctionType


class FunctionTool(FunctionDefinition, _Typed):
    """One of ``tools``; the type is checked first."""


ToolItem = Annotated[
    FunctionTool | None, BeforeValidator(own_tools_only, json_schema_input_type=FunctionTool | dict[str, object])
]
"""One of ``tools``; None for one that cannot be had here."""


class _NamedFunction(ApiModel):
    type: FunctionType
    name: str


class _AllowedFunctions(ApiModel):
    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[ListOf[_NamedFunction], Field(min_length=1), AtMost(MAX_TOOLS)]


def _choice(value: object) -> object:
    mode = choice_mode(value)
    if mode is not None:
        return mode
    if isinstance(value, dict) and value.get("type") == "allowed_tools":
        allowed = parse(_AllowedFunctions, value, "tool_choice")
        return RequestedChoice(mode=allowed.mode, allowed=tuple(tool.name for tool in allowed.tools))
    if isinstance(value, dict):
        if value.get("type") in ("function", "tool") and isinstance(value.get("function"), dict):
            value = {"type": "function", **value["function"]}
        return RequestedChoice(mode="required", allowed=(parse(_NamedFunction, value, "tool_choice").name,))
    raise invalid("must be none, auto, required, or an object that names a function")


_ToolChoice = Annotated[
    RequestedChoice, BeforeValidator(_choice, json_schema_input_type=_Mode | _NamedFunction | _AllowedFunctions)
]


class FunctionFields(ApiModel):
    """The fields about tools."""

    tools: Annotated[ListOf[ToolItem], AtMost(MAX_TOOLS)] | None = Field(default=None, description=TOOLS)
    tool_choice: _ToolChoice | None = Field(default=None, description=TOOL_CHOICE)
    parallel_tool_calls: bool | None = Field(default=None, description=PARALLEL_CALLS)


def to_tool_config(fields: FunctionFields) -> ToolConfig | None:
    """Return the functions that may be called, or None.

    Raises:
        InvalidRequest: the fields contradict each other.
        ToolError: a tool is not acceptable.
    """
    parallel = fields.parallel_tool_calls is not False
    functions = [tool for tool in fields.tools or () if tool is not None]
    return tool_config(functions, fields.tool_choice, "tool_choice", parallel=parallel)


def tools_object(fields: FunctionFields) -> list[dict[str, object]]:
    """Return the tools as the response repeats them."""
    return [tool.model_dump() for tool in fields.tools or () if tool is not None]


def choice_object(fields: FunctionFields) -> str | dict[str, object]:
    """Return the choice as the response repeats it."""
    choice = fields.tool_choice
    if choice is None or choice.allowed is None:
        return "auto" if choice is None else choice.mode
    named: list[dict[str, object]] = [{"type": "function", "name": name} for name in choice.allowed]
    if choice.mode == "required" and len(named) == 1:
        return named[0]
    return {"type": "allowed_tools", "mode": choice.mode, "tools": named}
