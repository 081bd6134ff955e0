"""Content blocks of messages, and their translation to the messages of the prompt formats."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, cast

from pydantic import BeforeValidator, Field

from glmserve.api.common.base import ApiModel, ListOf, invalid, parse, text_parts
from glmserve.chat.prompts.messages import Message, Role
from glmserve.chat.tools.types import NAME_PATTERN, ToolCall
from glmserve.http.errors import InvalidRequest, shown

_TEXT = ("text",)
_DROPPED = ("redacted_thinking", "server_tool_use", "mcp_tool_use", "mcp_tool_result", "compaction")
_SERVER_RESULT = "_tool_result"
_BILLING = "x-anthropic-billing-header:"
"""Claude Code tells its version so, in a line of the system text that is no part of it."""
_ROLES = {"user": Role.USER, "assistant": Role.ASSISTANT, "system": Role.SYSTEM}


def _text(value: object) -> str:
    return "" if value is None else "\n".join(text_parts(value, _TEXT))


def _system_text(value: object) -> str:
    texts = () if value is None else text_parts(value, _TEXT)
    return "\n".join(text for text in texts if not text.startswith(_BILLING))


def _input(value: object) -> object:
    if value is None:
        return {}
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value or "{}")
    except (ValueError, RecursionError):
        raise invalid("must be an object, or the JSON text of one") from None


BlockText = Annotated[str, BeforeValidator(_text, json_schema_input_type=str | list[dict[str, object]] | None)]
"""A string, or blocks of text."""

SystemText = Annotated[str, BeforeValidator(_system_text, json_schema_input_type=str | list[dict[str, object]] | None)]
"""The same, without the identification that a client adds."""


class MessageParam(ApiModel):
    """One message; its blocks are checked where they are translated."""

    role: Literal["user", "assistant", "system"]
    content: str | ListOf[dict[str, object]]


class _TextBlock(ApiModel):
    text: str


class _TextSource(ApiModel):
    data: str


class _ContentSource(ApiModel):
    content: BlockText


class _Thinking(ApiModel):
    thinking: str = ""


class _ToolUse(ApiModel):
    id: Annotated[str, Field(min_length=1)]
    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    input: Annotated[dict[str, object], BeforeValidator(_input, json_schema_input_type=dict[str, object] | str | None)]


class _ToolResult(ApiModel):
    tool_use_id: Annotated[str, Field(min_length=1)]
    content: BlockText = ""
    is_error: bool | None = None


@dataclass(slots=True)
class _Gathered:
    """A message while its blocks are read."""

    role: Role
    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)

    def take(self) -> Message:
        thoughts = "\n".join(self.thoughts)
        message = Message(self.role, "\n".join(self.texts), tuple(self.calls), reasoning=thoughts)
        self.texts, self.calls, self.thoughts = [], [], []
        return message


def to_messages(given: MessageParam, path: str) -> Iterator[Message]:
    """Yield the messages of one message at ``path``: results of tools are messages of their own.

    Raises:
        InvalidRequest: a block is of a kind that is not supported there, or has a wrong value.
    """
    role = _ROLES[given.role]
    if isinstance(given.content, str):
        yield Message(role, given.content)
        return
    gathered = _Gathered(role)
    results = dropped = False
    for index, block in enumerate(given.content):
        at, kind = f"{path}.content[{index}]", block.get("type")
        if kind in ("text", "document"):
            gathered.texts.append(_text_of(block, at))
        elif kind == "tool_use" and role is Role.ASSISTANT:
            use = parse(_ToolUse, block, at)
            gathered.calls.append(ToolCall(use.id, use.name, json.dumps(use.input, ensure_ascii=False)))
        elif kind == "tool_result" and role is Role.USER:
            if gathered.texts:
                yield gathered.take()
            results = True
            yield _result(parse(_ToolResult, block, at), at)
        elif kind == "thinking":
            gathered.thoughts.append(parse(_Thinking, block, at).thinking)
            dropped = True
        elif _is_dropped(kind):
            dropped = True
        else:
            raise _unsupported(f"{at} has the type {shown(kind)}", f"in messages of the role {given.role}", at)
    if gathered.texts or gathered.calls or not (results or dropped):
        yield gathered.take()


def _unsupported(what: str, where: str, at: str) -> InvalidRequest:
    return InvalidRequest(f"{what}, which is not supported {where}", param=f"{at}.type", code="unsupported_parameter")


def _is_dropped(kind: object) -> bool:
    """Return whether a block is no part of the text: reasoning that is encrypted, or the work of a server's tools."""
    return kind in _DROPPED or (isinstance(kind, str) and kind.endswith(_SERVER_RESULT))


def _text_of(block: Mapping[str, object], at: str) -> str:
    """Return the text of a block, or of a document that is one. Raises InvalidRequest about any other."""
    if block.get("type") == "text":
        return parse(_TextBlock, block, at).text
    source = block.get("source")
    kind = source.get("type") if isinstance(source, dict) else None
    if kind == "text":
        return parse(_TextSource, cast(Mapping[str, object], source), f"{at}.source").data
    if kind == "content":
        return parse(_ContentSource, cast(Mapping[str, object], source), f"{at}.source").content
    raise InvalidRequest(
        f"{at}.source has the type {shown(kind)}; of documents only text and content are supported",
        param=f"{at}.source.type",
        code="unsupported_parameter",
    )


def _result(result: _ToolResult, at: str) -> Message:
    text = f"Error: {result.content}" if result.is_error else result.content
    return Message(Role.TOOL, text, tool_call_id=result.tool_use_id, call_id_field=f"{at}.tool_use_id")
