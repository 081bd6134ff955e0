"""Conversion of messages about tools for prompt formats."""

from collections.abc import Sequence
from itertools import takewhile

from glmserve.chat.prompts.errors import PromptError
from glmserve.chat.prompts.message import Message, Role
from glmserve.chat.tools.interface import ToolCallFormat
from glmserve.chat.tools.plain_text import TextForm
from glmserve.chat.tools.types import Tool


def check_results(messages: Sequence[Message]) -> None:
    """Check that every result belongs to a call that was made before it.

    Raises:
        PromptError: one does not.
    """
    called: set[str] = set()
    for index, message in enumerate(messages):
        called |= {call.id for call in message.tool_calls}
        if message.role is Role.TOOL and message.tool_call_id not in called:
            path = message.call_id_field or f"messages[{index}].tool_call_id"
            raise PromptError(f"{path}: there is no tool call with the id {message.tool_call_id[:100]!r} before it")


def with_system(messages: Sequence[Message], tools: Sequence[Tool], tool_format: ToolCallFormat) -> tuple[Message, ...]:
    """Return ``messages`` with one system message at the start that describes ``tools``, if there are any.

    It takes in the system messages that are there.
    """
    if not tools:
        return tuple(messages)
    leading = tuple(takewhile(lambda message: message.role is Role.SYSTEM, messages))
    system = "\n\n".join(message.content for message in leading)
    return (Message(Role.SYSTEM, tool_format.describe(tools, system)), *messages[len(leading) :])


def as_text(messages: Sequence[Message], tools: Sequence[Tool], tool_format: TextForm) -> tuple[Message, ...]:
    """Return ``messages`` in the roles system, user and assistant alone, with calls and results as text."""
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    return tuple(_as_text(message, names, tool_format) for message in with_system(messages, tools, tool_format))


def _as_text(message: Message, names: dict[str, str], tool_format: TextForm) -> Message:
    if message.role is Role.TOOL:
        return Message(Role.USER, tool_format.result(names[message.tool_call_id], message.content))
    if message.tool_calls:
        return Message(Role.ASSISTANT, tool_format.calls(message.content, message.tool_calls))
    return message
