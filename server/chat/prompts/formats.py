"""Messages to token ids, one format a model family. Pure: the encoder is handed in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from types import MappingProxyType
from typing import ClassVar, Protocol

from glmserve.chat.prompts.chatglm2 import render
from glmserve.chat.prompts.errors import PromptError
from glmserve.chat.prompts.message import Message, Role
from glmserve.chat.prompts.tool_messages import as_text, with_system
from glmserve.chat.tools.chatglm3 import ChatGLM3Form
from glmserve.chat.tools.glm4 import Glm4Form
from glmserve.chat.tools.interface import NamedForm, ToolCallFormat
from glmserve.chat.tools.plain_text import TextForm
from glmserve.chat.tools.types import Tool


class Encoder(Protocol):
    """Text to token ids."""

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of ``text`` as plain text: text that looks like a special token stays text."""

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
    def end_tokens(self) -> tuple[str, ...]:
        """The special tokens that end an answer, by their names; of several spellings a vocabulary has one."""

    @property
    def tool_form(self) -> ToolCallFormat | None:
        """Tool call format of the family; None if it has no tools."""

    def encode(
        self, messages: Sequence[Message], encoder: Encoder, tools: Sequence[Tool] = (), *, continued: bool = False
    ) -> tuple[int, ...]:
        """Return the prompt's ids, up to where the answer starts.

        Args:
            messages: the conversation. After one of the assistant's at the end a new answer begins.
            encoder: the model's vocabulary.
            tools: what the model is told that it may call.
            continued: the last message is the assistant's, and the answer goes on right after its text.

        Raises:
            PromptError: the conversation cannot be put that way.
        """


_GLM_PREFIX = ("[gMASK]", "sop")
_END = ("</s>", "<eos>")


@dataclass(frozen=True, slots=True)
class Conversation:
    """Finished rounds of (question, answer), and the question that is open."""

    turns: tuple[tuple[str, str], ...]
    query: str


def to_conversation(messages: Sequence[Message]) -> Conversation:
    """Return ``messages`` as rounds, for families whose prompt knows only question and answer.

    System text joins the user message after it, a blank line between: at the start of the chat that is the first
    one, so the prompt of a growing chat keeps its prefix and stays cached. Before an answer and at the end it is the
    question, or the end of it. Messages of one speaker in a row are joined by a line break. An answer that nobody
    asked for gets an empty question, and after an answer at the end an empty question is open.
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


@dataclass(frozen=True, slots=True)
class ChatGLM2Format:
    """[gMASK] and sop, then all rounds as one text. Tools, calls and results are plain words."""

    opens_with_blanks: ClassVar[bool] = False
    text_prefix: ClassVar[tuple[str, ...]] = _GLM_PREFIX
    end_tokens: ClassVar[tuple[str, ...]] = _END
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
    """Each message after the token of its role; the prompt ends with the assistant's token.

    System text in front of the first question goes without a token of its own, as Baichuan2's authors have it; any
    other joins the next question, or is one. Tools are told of, called and answered in plain words.
    """

    opens_with_blanks: ClassVar[bool] = False
    text_prefix: ClassVar[tuple[str, ...]] = ()
    end_tokens: ClassVar[tuple[str, ...]] = _END
    tool_form: ClassVar[TextForm] = TextForm()

    def encode(
        self, messages: Sequence[Message], encoder: Encoder, tools: Sequence[Tool] = (), *, continued: bool = False
    ) -> tuple[int, ...]:
        """Return the prompt's ids; see ``PromptFormat``."""
        asked, answer = split_answer(messages, continued=continued)
        asked = as_text(asked, tools, self.tool_form)
        leading = _leading_system(asked)
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
    end_tokens: ClassVar[tuple[str, ...]] = (*_END, "<|endoftext|>", "<|user|>", "<|observation|>")

    def encode(
        self, messages: Sequence[Message], encoder: Encoder, tools: Sequence[Tool] = (), *, continued: bool = False
    ) -> tuple[int, ...]:
        """Return the prompt's ids; see ``PromptFormat``."""
        asked, answer = split_answer(messages, continued=continued)
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
    """[gMASK] and sop, then the text of the last message of any role: code to complete.

    The model completes and does not converse, so earlier messages and system text are no part of the prompt, and
    there is nothing that could tell it of tools.
    """

    opens_with_blanks: ClassVar[bool] = False
    text_prefix: ClassVar[tuple[str, ...]] = _GLM_PREFIX
    end_tokens: ClassVar[tuple[str, ...]] = _END
    tool_form: ClassVar[None] = None

    def encode(
        self, messages: Sequence[Message], encoder: Encoder, tools: Sequence[Tool] = (), *, continued: bool = False
    ) -> tuple[int, ...]:
        """Return the prompt's ids; see ``PromptFormat``."""
        if tools or any(message.role is Role.TOOL for message in messages):
            raise PromptError("this model completes code and does not support tools")
        asked, answer = split_answer(messages, continued=continued)
        query = asked[-1].content if asked else ""
        return (*prefix_ids(self, encoder), *encoder.encode(query + answer))


def _leading_system(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Return the system messages in front of the first question; where an answer or nothing follows, they are one."""
    leading = tuple(takewhile(lambda message: message.role is Role.SYSTEM, messages))
    is_followed = len(leading) < len(messages) and messages[len(leading)].role is Role.USER
    return leading if is_followed else ()


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


def prefix_ids(form: PromptFormat, encoder: Encoder) -> tuple[int, ...]:
    """Return the ids of the special tokens that stand in front of every text."""
    return tuple(map(encoder.special_id, form.text_prefix))


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
        raise ValueError(f"there is no prompt format {name!r}; known: {known}") from None


def end_tokens(name: str) -> tuple[str, ...]:
    """Return the end tokens of the format called ``name``; none where there is no such format."""
    return _FORMATS[name].end_tokens if name in _FORMATS else ()
