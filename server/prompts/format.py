"""Messages to token ids, one format a model family. Pure: the encoder is handed in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from types import MappingProxyType
from typing import ClassVar, Protocol

from server.prompts.chatglm2 import render
from server.prompts.errors import PromptError
from server.prompts.message import Message, Role
from server.prompts.tool_messages import as_text, with_system
from server.tools.chatglm3_form import ChatGLM3Form
from server.tools.form import NamedForm, ToolForm
from server.tools.glm4_form import Glm4Form
from server.tools.text_form import TextForm
from server.tools.tool import Tool


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

    @property
    def text_prefix(self) -> tuple[str, ...]:
        """The special tokens that the authors' tokenizer puts in front of every text."""

    @property
    def tool_form(self) -> ToolForm | None:
        """How the family calls tools; None where it cannot be told of any."""

    def encode(
        self, messages: Sequence[Message], encoder: Encoder, tools: Sequence[Tool] = (), *, continued: bool = False
    ) -> tuple[int, ...]:
        """Return the prompt's ids, up to where the answer starts.

        Args:
            messages: the conversation; the last one is the user's, or a tool's result.
            encoder: the model's vocabulary.
            tools: what the model is told that it may call.
            continued: the last message is the assistant's instead, and the answer goes on right after its text.

        Raises:
            PromptError: the conversation cannot be put that way.
        """


_GLM_PREFIX = ("[gMASK]", "sop")


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
    """[gMASK] and sop, then all rounds as one text. Tools are told of, called and answered in plain words."""

    opens_with_blanks: ClassVar[bool] = False
    text_prefix: ClassVar[tuple[str, ...]] = _GLM_PREFIX
    tool_form: ClassVar[TextForm] = TextForm()

    def encode(
        self, messages: Sequence[Message], encoder: Encoder, tools: Sequence[Tool] = (), *, continued: bool = False
    ) -> tuple[int, ...]:
        """Return the prompt's ids; see ``PromptFormat``."""
        asked, answer = split_answer(messages, continued=continued)
        conversation = to_conversation(as_text(asked, tools, self.tool_form))
        text = render(conversation.turns, conversation.query) + answer
        return (*prefix_ids(self, encoder), *encoder.encode(text))


@dataclass(frozen=True, slots=True)
class BaichuanFormat:
    """Each message by itself after the token of its role; the prompt ends with the assistant's.

    System text at the start goes in front without a token of its own, as Baichuan2's authors have it; later
    system text joins the next question. Tools are told of, called and answered in plain words.
    """

    opens_with_blanks: ClassVar[bool] = False
    text_prefix: ClassVar[tuple[str, ...]] = ()
    tool_form: ClassVar[TextForm] = TextForm()

    def encode(
        self, messages: Sequence[Message], encoder: Encoder, tools: Sequence[Tool] = (), *, continued: bool = False
    ) -> tuple[int, ...]:
        """Return the prompt's ids; see ``PromptFormat``."""
        asked, answer = split_answer(messages, continued=continued)
        asked = as_text(asked, tools, self.tool_form)
        leading = tuple(takewhile(lambda message: message.role is Role.SYSTEM, asked))
        conversation = to_conversation(asked[len(leading) :])
        user, assistant = encoder.special_id("user"), encoder.special_id("assistant")
        ids = list(encoder.encode("\n\n".join(message.content for message in leading)))
        for question, earlier in conversation.turns:
            ids += (user, *encoder.encode(question), assistant, *encoder.encode(earlier))
        return (*ids, user, *encoder.encode(conversation.query), assistant, *encoder.encode(answer))


@dataclass(frozen=True, slots=True)
class RoleTokensFormat:
    """ChatGLM3 and GLM-4: [gMASK] and sop; each message after its role's token and a line of metadata.

    Metadata and text are tokenised each by itself, as the authors' tokenizer does; where the vocabulary has a dummy
    prefix, each gets one. The metadata is empty but for calls, where it is the name of the tool. The answer begins
    with its own line of metadata.
    """

    tool_form: NamedForm
    opens_with_blanks: ClassVar[bool] = True
    text_prefix: ClassVar[tuple[str, ...]] = _GLM_PREFIX

    def encode(
        self, messages: Sequence[Message], encoder: Encoder, tools: Sequence[Tool] = (), *, continued: bool = False
    ) -> tuple[int, ...]:
        """Return the prompt's ids; see ``PromptFormat``."""
        asked, answer = split_answer(messages, continued=continued)
        _check_last(asked)
        ids = list(prefix_ids(self, encoder))
        for message in with_system(asked, tools, self.tool_form):
            if message.content or not message.tool_calls:
                ids += _after_role(encoder, _ROLE_TOKENS[message.role], "", message.content)
            for call in message.tool_calls:
                ids += _after_role(encoder, "<|assistant|>", call.name, self.tool_form.body(call))
        if continued:
            return (*ids, *_after_role(encoder, "<|assistant|>", "", answer))
        return (*ids, encoder.special_id("<|assistant|>"))


_ROLE_TOKENS: Mapping[Role, str] = MappingProxyType(
    {
        Role.SYSTEM: "<|system|>",
        Role.USER: "<|user|>",
        Role.ASSISTANT: "<|assistant|>",
        Role.TOOL: "<|observation|>",
    }
)


def _after_role(encoder: Encoder, role: str, metadata: str, text: str) -> tuple[int, ...]:
    return (encoder.special_id(role), *encoder.encode(f"{metadata}\n"), *encoder.encode(text))


@dataclass(frozen=True, slots=True)
class CodeGeeX2Format:
    """[gMASK] and sop, then the last message as it is: code to be gone on with.

    The model completes and does not converse, so earlier messages and system text are no part of the prompt, and
    there is nothing that could tell it of tools.
    """

    opens_with_blanks: ClassVar[bool] = False
    text_prefix: ClassVar[tuple[str, ...]] = _GLM_PREFIX
    tool_form: ClassVar[None] = None

    def encode(
        self, messages: Sequence[Message], encoder: Encoder, tools: Sequence[Tool] = (), *, continued: bool = False
    ) -> tuple[int, ...]:
        """Return the prompt's ids; see ``PromptFormat``."""
        if tools or any(message.role is Role.TOOL for message in messages):
            raise PromptError("this model completes code and can be told of no tools")
        asked, answer = split_answer(messages, continued=continued)
        query = _check_last(asked).content
        return (*prefix_ids(self, encoder), *encoder.encode(query + answer))


def split_answer(messages: Sequence[Message], *, continued: bool) -> tuple[tuple[Message, ...], str]:
    """Return the messages to be answered, and the beginning of the answer that was given, empty unless continued.

    Raises:
        PromptError: there should be such a beginning, and the last message is none.
    """
    if not continued:
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


def prefix_ids(form: PromptFormat, encoder: Encoder) -> tuple[int, ...]:
    """Return the ids of the special tokens that stand in front of every text."""
    return tuple(map(encoder.special_id, form.text_prefix))


def _check_last(messages: Sequence[Message]) -> Message:
    """Return the last message. Raises PromptError where the assistant cannot answer to it."""
    if not messages or messages[-1].role not in (Role.USER, Role.TOOL):
        raise PromptError("the last message must be from the user, or be a tool's result")
    return messages[-1]


_FORMATS: Mapping[str, PromptFormat] = MappingProxyType(
    {
        "chatglm2": ChatGLM2Format(),
        "chatglm3": RoleTokensFormat(ChatGLM3Form()),
        "codegeex2": CodeGeeX2Format(),
        "glm4": RoleTokensFormat(Glm4Form()),
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
