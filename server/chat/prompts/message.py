"""A chat message as every dialect and every prompt format sees it."""

from dataclasses import dataclass, field
from enum import Enum

from glmserve.chat.tools.types import ToolCall


class Role(str, Enum):
    """Who speaks. A developer's message is a system message; a tool's is the result of a call."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class Message:
    """One message; its text is never parsed for special tokens."""

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    """The calls that the assistant made after its text."""
    tool_call_id: str = ""
    """Of a tool's message: the call that it is the result of."""
    call_id_field: str = field(default="", compare=False)
    """Path of that id in the request, for error messages in the words of its dialect."""

    @property
    def characters(self) -> int:
        """How much text it is, about."""
        return len(self.content) + sum(len(call.name) + len(call.arguments) for call in self.tool_calls)
