"""A chat message as every dialect and every prompt format sees it."""

from dataclasses import dataclass
from enum import Enum


class Role(str, Enum):
    """Who speaks. A developer's message is a system message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Message:
    """One message; its text is never parsed for special tokens."""

    role: Role
    content: str
