"""What messages are made of, and the messages as every prompt format takes them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from server.errors import InvalidRequest, shown
from server.openai.checked import Wire, parse, text_parts
from server.prompts.message import Message, Role
from server.tools.tool import NAME_PATTERN, ToolCall

_TEXT = ("text",)
_ROLES = {"user": Role.USER, "assistant": Role.ASSISTANT, "system": Role.SYSTEM}


def _text(value: object) -> str:
    return "" if value is None else "\n".join(text_parts(value, _TEXT))


BlockText = Annotated[str, BeforeValidator(_text, json_schema_input_type=str | list[dict[str, object]] | None)]
"""A string, or blocks of text."""


class MessageParam(Wire):
    """One message; its blocks are checked where they are translated."""

    role: Literal["user", "assistant", "system"]
    content: str | list[dict[str, object]]


class _TextBlock(Wire):
    text: str


class _ToolUse(Wire):
    id: Annotated[str, Field(min_length=1)]
    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    input: dict[str, object]


class _ToolResult(Wire):
    tool_use_id: Annotated[str, Field(min_length=1)]
    content: BlockText = ""
    is_error: bool = False


@dataclass(slots=True)
class _Gathered:
    """A message while its blocks are read."""

    role: Role
    texts: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)

    def take(self) -> Message:
        message = Message(self.role, "\n".join(self.texts), tuple(self.calls))
        self.texts, self.calls = [], []
        return message


def to_messages(given: MessageParam, path: str) -> Iterator[Message]:
    """Yield what one message at ``path`` comes to: results of tools are messages of their own.

    Raises:
        InvalidRequest: a block is of a kind that is not supported there, or has a wrong value.
    """
    role = _ROLES[given.role]
    if isinstance(given.content, str):
        yield Message(role, given.content)
        return
    gathered = _Gathered(role)
    results = False
    for index, block in enumerate(given.content):
        at, kind = f"{path}.content[{index}]", block.get("type")
        if kind == "text":
            gathered.texts.append(parse(_TextBlock, block, at).text)
        elif kind == "tool_use" and role is Role.ASSISTANT:
            use = parse(_ToolUse, block, at)
            gathered.calls.append(ToolCall(use.id, use.name, json.dumps(use.input, ensure_ascii=False)))
        elif kind == "tool_result" and role is Role.USER:
            if gathered.texts:
                yield gathered.take()
            results = True
            yield _result(parse(_ToolResult, block, at))
        else:
            raise InvalidRequest(
                f"{at} has the type {shown(kind)}, which is not supported in messages of the role {given.role}",
                param=f"{at}.type",
                code="unsupported_parameter",
            )
    if gathered.texts or gathered.calls or not results:
        yield gathered.take()


def _result(result: _ToolResult) -> Message:
    text = f"Error: {result.content}" if result.is_error else result.content
    return Message(Role.TOOL, text, tool_call_id=result.tool_use_id)
