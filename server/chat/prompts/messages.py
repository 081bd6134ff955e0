"""Chat messages as every dialect and every prompt format sees them, and as rounds of question and answer. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import takewhile

from glmserve.chat.tools.plain_text import TextCallFormat
from glmserve.chat.tools.types import Tool, ToolCall, ToolCallFormat


class PromptError(ValueError):
    """The messages cannot be encoded as a prompt; the message has the reason."""


class Role(str, Enum):
    """The speaker of a message. A developer's message is a system message; a tool's is the result of a call."""

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
    reasoning: str = ""
    """The assistant's reasoning before its text, for the chat templates that take it."""
    call_id_field: str = field(default="", compare=False)
    """Path of that id in the request, for error messages in the words of its dialect."""

    @property
    def characters(self) -> int:
        """How much text it is, about."""
        return (
            len(self.content)
            + len(self.reasoning)
            + sum(len(call.name) + len(call.arguments) for call in self.tool_calls)
        )


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


def as_text(messages: Sequence[Message], tools: Sequence[Tool], tool_format: TextCallFormat) -> tuple[Message, ...]:
    """Return ``messages`` in the roles system, user and assistant alone, with calls and results as text."""
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    return tuple(_as_text(message, names, tool_format) for message in with_system(messages, tools, tool_format))


def _as_text(message: Message, names: dict[str, str], tool_format: TextCallFormat) -> Message:
    if message.role is Role.TOOL:
        return Message(Role.USER, tool_format.result(names[message.tool_call_id], message.content))
    if message.tool_calls:
        text = tool_format.calls(message.content, message.tool_calls)
        return Message(Role.ASSISTANT, text, reasoning=message.reasoning)
    return message


@dataclass(frozen=True, slots=True)
class Conversation:
    """Finished rounds of (question, answer), and the question that is open."""

    turns: tuple[tuple[str, str], ...]
    query: str


def to_conversation(messages: Sequence[Message]) -> Conversation:
    """Return ``messages`` as rounds, for families whose prompt knows only question and answer.

    System text joins the user message after it, a blank line between: at the start of the chat that is the first
    one, so the prompt of a growing chat keeps its prefix and stays cached. Before an answer and at the end it is the
    question, or the end of it. Messages of one speaker in a row are joined by a line break. An answer without
    a question gets an empty question, and after an answer at the end an empty question is open.
    """
    turns: list[tuple[str, str]] = []
    system: list[str] = []
    question: list[str] = []
    answer: list[str] = []
    for message in messages:
        if answer and message.role is not Role.ASSISTANT:
            turns.append((_question(question, system), "\n".join(answer)))
            question, system, answer = [], [], []
        if message.role is Role.SYSTEM:
            system.append(message.content)
        elif message.role is Role.USER:
            question.append("\n\n".join([*system, message.content]))
            system = []
        else:
            answer.append(message.content)
    if answer:
        turns.append((_question(question, system), "\n".join(answer)))
        question, system = [], []
    return Conversation(tuple(turns), _question(question, system))


def _question(question: Sequence[str], system: Sequence[str]) -> str:
    """Return a question of the user's messages, and after them the system text that no such message follows."""
    return "\n\n".join([*(["\n".join(question)] if question else []), *system])


def split_answer(messages: Sequence[Message], *, continued: bool) -> tuple[tuple[Message, ...], str]:
    """Return the messages to be answered, and the beginning of the answer that was given, empty unless continued.

    Raises:
        PromptError: there is no message, results of tool calls are missing at the end, or there should be such a
            beginning, and the last message is none.
    """
    if not messages:
        raise PromptError("there is no message to answer")
    if not continued:
        if messages[-1].tool_calls:
            raise PromptError("the results of the last message's tool calls are missing after it")
        return tuple(messages), ""
    asked = list(messages)
    given: list[str] = []
    while asked and asked[-1].role is Role.ASSISTANT:
        last = asked.pop()
        if last.tool_calls:
            raise PromptError("an answer that ends in tool calls cannot be continued")
        given.insert(0, last.content)
    if not given:
        raise PromptError("the last message must be the assistant's for the answer to be continued")
    return tuple(asked), "\n".join(given)
