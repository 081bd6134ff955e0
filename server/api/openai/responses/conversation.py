"""The items of a conversation: read, checked, and translated to messages."""

import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from glmserve.api.common.base import ApiModel, Arguments, parse, text_parts
from glmserve.api.openai.responses.response_store import StoredResponse
from glmserve.chat.prompts.messages import Message, Role
from glmserve.chat.tools.types import ToolCall
from glmserve.http.errors import InvalidRequest, shown

_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
}
_PARTS = ("input_text", "output_text", "text", "refusal")
_DROPPED = frozenset(
    (
        "compaction", "web_search_call", "file_search_call", "code_interpreter_call",
        "image_generation_call", "computer_call", "computer_call_output", "mcp_call", "mcp_list_tools",
        "mcp_approval_request", "mcp_approval_response", "tool_search_call", "tool_search_output",
    )
)  # fmt: skip
"""Kinds of items that are encrypted, or the work of a server's tools: no part of the text."""

Parts = Annotated[tuple[str, ...], BeforeValidator(lambda value: text_parts(value, _PARTS))]
"""A string, or parts of text."""


@dataclass(frozen=True, slots=True)
class Item:
    """One item, as callers see it and as prompt formats take it."""

    text: bytes
    """Its JSON, with an id. All responses that an item belongs to share this text."""
    message: Message


class MessageItem(ApiModel):
    """A message of any role."""

    id: str | None = None
    role: Literal["system", "developer", "user", "assistant"]
    content: Parts


class _ReasoningItem(ApiModel):
    """Reasoning of the model before its answer."""

    id: str | None = None
    content: Annotated[tuple[str, ...], BeforeValidator(lambda value: text_parts(value, ("reasoning_text",)))]


class CallItem(ApiModel):
    """A call that the model made."""

    id: str | None = None
    call_id: Annotated[str, Field(min_length=1)]
    name: Annotated[str, Field(min_length=1)]
    arguments: Arguments


class _CustomCallItem(ApiModel):
    """A call whose input is free text, as other models make it."""

    id: str | None = None
    call_id: Annotated[str, Field(min_length=1)]
    name: Annotated[str, Field(min_length=1)]
    input: str


class _ShellCallItem(ApiModel):
    """A call of the shell beside the model, as other models make it."""

    id: str | None = None
    call_id: Annotated[str, Field(min_length=1)]
    action: dict[str, object]


class CallOutputItem(ApiModel):
    """The result of a call."""

    id: str | None = None
    call_id: Annotated[str, Field(min_length=1)]
    output: Parts


def user_item(text: str) -> Item:
    """Return ``text`` as a message of the user."""
    return parse_item({"role": "user", "content": text}, "input")


def parse_items(value: object, path: str) -> tuple[Item, ...]:
    """Return the items of a request's ``input``, which is at ``path``.

    Raises:
        InvalidRequest: one is of a kind that is not supported, or has a wrong value.
    """
    if isinstance(value, str):
        return (user_item(value),)
    if not isinstance(value, list):
        raise InvalidRequest(f"{path} must be a string or a list of items", param=path)
    items = enumerate(value)
    return tuple(parse_item(item, f"{path}[{index}]") for index, item in items if not _is_dropped(item))


def _is_dropped(item: object) -> bool:
    if not isinstance(item, dict):
        return False
    kind = item.get("type")
    # Another server's reasoning may be encrypted, with no text at all.
    return isinstance(kind, str) and (kind in _DROPPED or (kind == "reasoning" and not item.get("content")))


def parse_item(value: object, path: str) -> Item:
    """Return one item. Raises InvalidRequest."""
    if not isinstance(value, dict):
        raise InvalidRequest(f"{path} must be an object", param=path)
    kind = value.get("type") or "message"
    if isinstance(kind, str) and kind in _READERS:
        return _READERS[kind](value, path)
    hint = "; name the response that it is from as previous_response_id" if kind == "item_reference" else ""
    raise InvalidRequest(
        f"{path} has the type {shown(kind)}; supported are message, function_call and function_call_output{hint}",
        param=f"{path}.type",
        code="unsupported_parameter",
    )


def stored_response(inputs: Iterable[Item], response: Mapping[str, object]) -> StoredResponse:
    """Return a response and its input in the form in which they are stored."""
    return StoredResponse(str(response["id"]), _text(response), tuple(item.text for item in inputs))


def conversation(response: StoredResponse) -> tuple[Item, ...]:
    """Return all items up to and with the answer."""
    earlier = (Item(text, parse_item(json.loads(text), "item").message) for text in response.inputs)
    made = (parse_item(item, "item") for item in json.loads(response.reply)["output"])
    return (*earlier, *made)


def to_messages(items: Sequence[Item]) -> tuple[Message, ...]:
    """Return the messages of a conversation; calls belong to the model's message before them, reasoning to the next."""
    messages: list[Message] = []
    for item in items:
        message = item.message
        if messages and _is_reasoning(messages[-1]):
            reasoning = messages.pop().reasoning
            if message.role is Role.ASSISTANT:
                message = replace(message, reasoning=reasoning)
        if message.tool_calls and messages and messages[-1].role is Role.ASSISTANT:
            calls = messages[-1].tool_calls + message.tool_calls
            messages[-1] = replace(messages[-1], tool_calls=calls)
        else:
            messages.append(message)
    return tuple(messages[:-1] if messages and _is_reasoning(messages[-1]) else messages)


def _is_reasoning(message: Message) -> bool:
    return bool(message.reasoning) and not message.content and not message.tool_calls


def new_id(prefix: str) -> str:
    """Return a unique id."""
    return f"{prefix}_{uuid.uuid4().hex}"


def _said(item: MessageItem) -> Item:
    role = _ROLES[item.role]
    kind = {"type": "output_text", "annotations": []} if role is Role.ASSISTANT else {"type": "input_text"}
    content = [{**kind, "text": text} for text in item.content]
    json = {"id": item.id or new_id("msg"), "type": "message", "status": "completed", "role": item.role}
    return Item(_text({**json, "content": content}), Message(role, "\n".join(item.content)))


def _thought(value: Mapping[str, object], path: str) -> Item:
    item = parse(_ReasoningItem, value, path)
    content = [{"type": "reasoning_text", "text": text} for text in item.content]
    json = {"id": item.id or new_id("rs"), "type": "reasoning", "status": "completed", "summary": []}
    return Item(_text({**json, "content": content}), Message(Role.ASSISTANT, "", reasoning="\n".join(item.content)))


def _called(item: CallItem) -> Item:
    call = {"call_id": item.call_id, "name": item.name, "arguments": item.arguments}
    json = {"id": item.id or new_id("fc"), "type": "function_call", "status": "completed", **call}
    return Item(_text(json), Message(Role.ASSISTANT, "", (ToolCall(item.call_id, item.name, item.arguments),)))


def _answered(item: CallOutputItem, path: str) -> Item:
    text = "\n".join(item.output)
    json = {"id": item.id or new_id("fco"), "type": "function_call_output", "status": "completed"}
    made = _text({**json, "call_id": item.call_id, "output": text})
    return Item(made, Message(Role.TOOL, text, tool_call_id=item.call_id, call_id_field=f"{path}.call_id"))


def _custom_call(value: Mapping[str, object], path: str) -> Item:
    item = parse(_CustomCallItem, value, path)
    arguments = json.dumps({"input": item.input}, ensure_ascii=False)
    return _called(CallItem(id=item.id, call_id=item.call_id, name=item.name, arguments=arguments))


def _shell_call(value: Mapping[str, object], path: str) -> Item:
    item = parse(_ShellCallItem, value, path)
    arguments = json.dumps(item.action, ensure_ascii=False)
    return _called(CallItem(id=item.id, call_id=item.call_id, name="shell", arguments=arguments))


def _output(value: Mapping[str, object], path: str) -> Item:
    return _answered(parse(CallOutputItem, value, path), path)


_READERS: Mapping[str, Callable[[Mapping[str, object], str], Item]] = MappingProxyType(
    {
        "message": lambda value, path: _said(parse(MessageItem, value, path)),
        "reasoning": _thought,
        "function_call": lambda value, path: _called(parse(CallItem, value, path)),
        "function_call_output": _output,
        "custom_tool_call": _custom_call,
        "custom_tool_call_output": _output,
        "local_shell_call": _shell_call,
        "local_shell_call_output": _output,
    }
)
"""By the kind of item."""


def _text(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
