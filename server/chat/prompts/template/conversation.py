"""Messages and tools as chat templates expect them: OpenAI's form, as transformers passes it on. Pure."""

from collections.abc import Mapping, Sequence

from glmserve.chat.prompts.messages import Message, Role
from glmserve.chat.tools.types import Tool, ToolCall


def template_messages(messages: Sequence[Message], *, as_text: bool = False) -> tuple[Mapping[str, object], ...]:
    """Return ``messages``; the arguments of calls are objects, or JSON where a template takes them ``as_text``."""
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    return tuple(_message(message, names, as_text=as_text) for message in messages)


def template_tools(tools: Sequence[Tool]) -> tuple[Mapping[str, object], ...]:
    """Return the declarations of ``tools``."""
    return tuple({"type": "function", "function": tool.definition()} for tool in tools)


def with_system_in_question(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Return ``messages`` for a template without system messages: their text begins the next question."""
    found: list[Message] = []
    system: list[str] = []
    for message in messages:
        if message.role is Role.SYSTEM:
            system.append(message.content)
            continue
        if message.role is Role.USER and system:
            found.append(Message(Role.USER, "\n\n".join([*system, message.content])))
            system = []
            continue
        found.append(message)
    return (*found, Message(Role.USER, "\n\n".join(system))) if system else tuple(found)


def _message(message: Message, names: Mapping[str, str], *, as_text: bool) -> Mapping[str, object]:
    found: dict[str, object] = {"role": message.role.value, "content": message.content}
    if message.reasoning:
        found["reasoning_content"] = message.reasoning
    if message.tool_calls:
        found["tool_calls"] = [_call(call, as_text=as_text) for call in message.tool_calls]
    if message.role is Role.TOOL:
        found |= {"tool_call_id": message.tool_call_id, "name": names.get(message.tool_call_id, "")}
    return found


def _call(call: ToolCall, *, as_text: bool) -> Mapping[str, object]:
    parsed = None if as_text else call.parsed()
    arguments: object = (call.arguments or "{}") if parsed is None else parsed
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}
