"""Messages to token ids, one format a model family. Pure: the encoder is handed in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from types import MappingProxyType
from typing import ClassVar, Protocol

from server.prompts.chatglm2 import render
from server.prompts.message import Message, Role


class PromptError(ValueError):
    """The messages cannot be made into a prompt; the text says which and why."""


class Encoder(Protocol):
    """Text to token ids."""

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of ``text`` taken as plain text: what looks like a special token stays text."""

    def special_id(self, piece: str) -> int:
        """Return the id of the special token called ``piece``, or of the role of that name."""


class PromptFormat(Protocol):
    """How a model family expects a conversation."""

    @property
    def opens_with_blanks(self) -> bool:
        """Whether an answer begins with blanks that belong to the format and not to the text."""

    def encode(self, messages: Sequence[Message], encoder: Encoder) -> tuple[int, ...]:
        """Return the prompt's ids, up to where the answer starts.

        Raises:
            PromptError: the conversation cannot be put that way.
        """


@dataclass(frozen=True, slots=True)
class Conversation:
    """Finished rounds of (question, answer), and the question that is open."""

    turns: tuple[tuple[str, str], ...]
    query: str


def to_conversation(messages: Sequence[Message]) -> Conversation:
    """Return ``messages`` as rounds, for families whose prompt knows only question and answer.

    System text joins the next user message, a blank line between: at the start of the chat that is the first
    one, so the prompt of a growing chat keeps its prefix and stays cached. Messages of one speaker in a row are
    joined by a line break. An answer that nobody asked for gets an empty question.

    Raises:
        PromptError: there is no message, or the last one is not the user's.
    """
    _check_last(messages)
    turns: list[tuple[str, str]] = []
    system: list[str] = []
    question: list[str] = []
    answer: list[str] = []
    for message in messages:
        if answer and message.role is not Role.ASSISTANT:
            turns.append(("\n".join(question), "\n".join(answer)))
            question, answer = [], []
        if message.role is Role.SYSTEM:
            system.append(message.content)
        elif message.role is Role.USER:
            question.append("\n\n".join([*system, message.content]))
            system = []
        else:
            answer.append(message.content)
    return Conversation(tuple(turns), "\n".join(question))


@dataclass(frozen=True, slots=True)
class ChatGLM2Format:
    """[gMASK] and sop, then all rounds as one text."""

    opens_with_blanks: ClassVar[bool] = False

    def encode(self, messages: Sequence[Message], encoder: Encoder) -> tuple[int, ...]:
        """Return the prompt's ids; see ``PromptFormat``."""
        conversation = to_conversation(messages)
        text = render(conversation.turns, conversation.query)
        return (encoder.special_id("[gMASK]"), encoder.special_id("sop"), *encoder.encode(text))


@dataclass(frozen=True, slots=True)
class BaichuanFormat:
    """Each message by itself after the token of its role; the prompt ends with the assistant's.

    System text at the start goes in front without a token of its own, as Baichuan2's authors have it; later
    system text joins the next question.
    """

    opens_with_blanks: ClassVar[bool] = False

    def encode(self, messages: Sequence[Message], encoder: Encoder) -> tuple[int, ...]:
        """Return the prompt's ids; see ``PromptFormat``."""
        leading = tuple(takewhile(lambda message: message.role is Role.SYSTEM, messages))
        conversation = to_conversation(messages[len(leading) :])
        user, assistant = encoder.special_id("user"), encoder.special_id("assistant")
        ids = list(encoder.encode("\n\n".join(message.content for message in leading)))
        for question, answer in conversation.turns:
            ids += (user, *encoder.encode(question), assistant, *encoder.encode(answer))
        return (*ids, user, *encoder.encode(conversation.query), assistant)


@dataclass(frozen=True, slots=True)
class RoleTokensFormat:
    """ChatGLM3 and GLM-4: [gMASK] and sop; each message after its role's token and an empty line of metadata.

    Metadata and text are tokenised each by itself, as the authors' tokenizer does; where the vocabulary has a dummy
    prefix, each gets one. The answer begins with its own line of metadata, which is empty, too.
    """

    opens_with_blanks: ClassVar[bool] = True

    def encode(self, messages: Sequence[Message], encoder: Encoder) -> tuple[int, ...]:
        """Return the prompt's ids; see ``PromptFormat``."""
        _check_last(messages)
        metadata = encoder.encode("\n")
        ids = [encoder.special_id("[gMASK]"), encoder.special_id("sop")]
        for message in messages:
            role = encoder.special_id(f"<|{message.role.value}|>")
            ids += (role, *metadata, *encoder.encode(message.content))
        return (*ids, encoder.special_id("<|assistant|>"))


@dataclass(frozen=True, slots=True)
class CodeGeeX2Format:
    """[gMASK] and sop, then the last message as it is: code to be gone on with.

    The model completes and does not converse, so earlier messages and system text are no part of the prompt.
    """

    opens_with_blanks: ClassVar[bool] = False

    def encode(self, messages: Sequence[Message], encoder: Encoder) -> tuple[int, ...]:
        """Return the prompt's ids; see ``PromptFormat``."""
        query = _check_last(messages).content
        return (encoder.special_id("[gMASK]"), encoder.special_id("sop"), *encoder.encode(query))


def _check_last(messages: Sequence[Message]) -> Message:
    """Return the last message. Raises PromptError where it is not the user's."""
    if not messages or messages[-1].role is not Role.USER:
        raise PromptError("the last message must be from the user")
    return messages[-1]


_FORMATS: Mapping[str, PromptFormat] = MappingProxyType(
    {
        "chatglm2": ChatGLM2Format(),
        "chatglm3": RoleTokensFormat(),
        "codegeex2": CodeGeeX2Format(),
        "glm4": RoleTokensFormat(),
        "baichuan": BaichuanFormat(),
    }
)


def prompt_format(name: str) -> PromptFormat:
    """Return the format called ``name``.

    Raises:
        ValueError: there is none of that name.
    """
    try:
        return _FORMATS[name]
    except KeyError:
        known = ", ".join(sorted(_FORMATS))
        raise ValueError(f"no prompt format is called {name!r}; known: {known}") from None
