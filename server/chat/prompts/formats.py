"""Messages to token ids, one format a model family. Pure: the encoder is handed in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from types import MappingProxyType
from typing import ClassVar, Protocol

from glmserve.chat.prompts.messages import (
    Message,
    PromptError,
    Role,
    as_text,
    split_answer,
    to_conversation,
    with_system,
)
from glmserve.chat.tools.named_formats import ChatGLM3CallFormat, Glm4CallFormat
from glmserve.chat.tools.plain_text import TextCallFormat
from glmserve.chat.tools.types import CallFormat, NamedCallFormat, Tool


class Encoder(Protocol):
    """Text to token ids."""

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of ``text`` as plain text: text that looks like a special token stays text."""

    def special_id(self, piece: str) -> int:
        """Return the id of the special token called ``piece``, or of the role of that name."""

    @property
    def opening(self) -> tuple[int, ...]:
        """The ids that the vocabulary itself puts in front of every text, such as its BOS."""

    def takes_blanks(self, token_id: int) -> bool:
        """Whether the blanks after this special token belong to it, and are no text."""


class PromptFormat(Protocol):
    """How a model family expects a conversation."""

    @property
    def opens_with_blanks(self) -> bool:
        """Whether an answer begins with blanks that belong to the format and not to the text."""

    @property
    def text_prefix(self) -> tuple[str, ...] | None:
        """The special tokens that the authors' tokenizer puts in front of every text; None leaves it to the file."""

    @property
    def thinks(self) -> bool:
        """Whether an answer may begin with reasoning between ``<think>`` and ``</think>``."""

    @property
    def waits(self) -> bool:
        """Whether encoding waits for another process, so that it is done in a thread."""

    @property
    def end_tokens(self) -> tuple[str, ...]:
        """The special tokens that end an answer, by their names; of several spellings a vocabulary has one."""

    @property
    def tool_format(self) -> CallFormat | None:
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


def chatglm2_text(turns: Sequence[tuple[str, str]], query: str) -> str:
    """Return the prompt text for ``query`` after the finished ``turns`` (question, answer).

    The format is that of ``build_prompt`` in the model authors' tokenizer: rounds count from 1.
    """
    rounds = [f"[Round {i}]\n\n问：{q}\n\n答：{a}\n\n" for i, (q, a) in enumerate(turns, 1)]
    return "".join(rounds) + f"[Round {len(turns) + 1}]\n\n问：{query}\n\n答："


@dataclass(frozen=True, slots=True)
class ChatGLM2Format:
    """[gMASK] and sop, then all rounds as one text. Tools, calls and results are plain words."""

    opens_with_blanks: ClassVar[bool] = False
    waits: ClassVar[bool] = False
    thinks: ClassVar[bool] = False
    text_prefix: ClassVar[tuple[str, ...]] = _GLM_PREFIX
    end_tokens: ClassVar[tuple[str, ...]] = _END
    tool_format: ClassVar[TextCallFormat] = TextCallFormat()

    def encode(
        self, messages: Sequence[Message], encoder: Encoder, tools: Sequence[Tool] = (), *, continued: bool = False
    ) -> tuple[int, ...]:
        """Return the prompt's ids; see ``PromptFormat``."""
        asked, answer = split_answer(messages, continued=continued)
        conversation = to_conversation(as_text(asked, tools, self.tool_format))
        text = chatglm2_text(conversation.turns, conversation.query) + answer
        return (*prefix_ids(self, encoder), *encoder.encode(text))


@dataclass(frozen=True, slots=True)
class BaichuanFormat:
    """Each message after the token of its role; the prompt ends with the assistant's token.

    System text in front of the first question goes without a token of its own, as Baichuan2's authors have it; any
    other joins the next question, or is one. Tools are described, called and answered in plain words.
    """

    closes_answers: bool = False
    """Whether the end token stands after earlier answers, as the first Baichuan's authors have it."""
    opens_with_blanks: ClassVar[bool] = False
    waits: ClassVar[bool] = False
    thinks: ClassVar[bool] = False
    text_prefix: ClassVar[tuple[str, ...]] = ()
    end_tokens: ClassVar[tuple[str, ...]] = _END
    tool_format: ClassVar[TextCallFormat] = TextCallFormat()

    def encode(
        self, messages: Sequence[Message], encoder: Encoder, tools: Sequence[Tool] = (), *, continued: bool = False
    ) -> tuple[int, ...]:
        """Return the prompt's ids; see ``PromptFormat``."""
        asked, answer = split_answer(messages, continued=continued)
        asked = as_text(asked, tools, self.tool_format)
        leading = _leading_system(asked)
        conversation = to_conversation(asked[len(leading) :])
        user, assistant = encoder.special_id("user"), encoder.special_id("assistant")
        end = (encoder.special_id("</s>"),) if self.closes_answers else ()
        ids = list(encoder.encode("\n\n".join(message.content for message in leading)))
        for question, earlier in conversation.turns:
            ids += (user, *encoder.encode(question), assistant, *encoder.encode(earlier), *end)
        return (*ids, user, *encoder.encode(conversation.query), assistant, *encoder.encode(answer))


@dataclass(frozen=True, slots=True)
class RoleTokensFormat:
    """ChatGLM3 and GLM-4: [gMASK] and sop; each message after its role's token and a line of metadata.

    Metadata and text are tokenised each by itself, as the authors' tokenizer does; where the vocabulary has a dummy
    prefix, each gets one. The metadata is empty but for calls, where it is the name of the tool. The answer begins
    with its own line of metadata.
    """

    tool_format: NamedCallFormat
    has_system_first: bool = False
    """Whether all system messages stand in front, behind one of their own for the tools: GLM-4 of April 2025."""
    opens_with_blanks: ClassVar[bool] = True
    waits: ClassVar[bool] = False
    thinks: ClassVar[bool] = False
    text_prefix: ClassVar[tuple[str, ...]] = _GLM_PREFIX
    end_tokens: ClassVar[tuple[str, ...]] = (*_END, "<|endoftext|>", "<|user|>", "<|observation|>")

    def encode(
        self, messages: Sequence[Message], encoder: Encoder, tools: Sequence[Tool] = (), *, continued: bool = False
    ) -> tuple[int, ...]:
        """Return the prompt's ids; see ``PromptFormat``."""
        asked, answer = split_answer(messages, continued=continued)
        ids = list(prefix_ids(self, encoder))
        for message in self._told(asked, tools):
            if message.content or not message.tool_calls:
                ids += _after_role(encoder, _ROLE_TOKENS[message.role], "", message.content)
            for call in message.tool_calls:
                ids += _after_role(encoder, "<|assistant|>", call.name, self.tool_format.body(call))
        if continued:
            return (*ids, *_after_role(encoder, "<|assistant|>", "", answer))
        return (*ids, encoder.special_id("<|assistant|>"))

    def _told(self, messages: Sequence[Message], tools: Sequence[Tool]) -> tuple[Message, ...]:
        if not self.has_system_first:
            return with_system(messages, tools, self.tool_format)
        told = (Message(Role.SYSTEM, self.tool_format.describe(tools, "")),) if tools else ()
        # A stable sort: the order among system messages, and among all others, stays.
        return (*told, *sorted(messages, key=lambda message: message.role is not Role.SYSTEM))


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
    waits: ClassVar[bool] = False
    thinks: ClassVar[bool] = False
    text_prefix: ClassVar[tuple[str, ...]] = _GLM_PREFIX
    end_tokens: ClassVar[tuple[str, ...]] = _END
    tool_format: ClassVar[None] = None

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


def prefix_ids(form: PromptFormat, encoder: Encoder) -> tuple[int, ...]:
    """Return the ids of the special tokens that stand in front of every text."""
    return encoder.opening if form.text_prefix is None else tuple(map(encoder.special_id, form.text_prefix))


_FORMATS: Mapping[str, PromptFormat] = MappingProxyType(
    {
        "chatglm2": ChatGLM2Format(),
        "chatglm3": RoleTokensFormat(ChatGLM3CallFormat()),
        "codegeex2": CodeGeeX2Format(),
        "glm4": RoleTokensFormat(Glm4CallFormat()),
        "glm4-0414": RoleTokensFormat(Glm4CallFormat(introduction=""), has_system_first=True),
        "baichuan": BaichuanFormat(closes_answers=True),
        "baichuan2": BaichuanFormat(),
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


_FILLINGS = ("一", "7", "x", " x")
"""Possible continuations: tokens merge across the seam with some of them and not with others."""


def common_beginning(
    messages: Sequence[Message],
    prompt_format: PromptFormat,
    encoder: Encoder,
    tools: Sequence[Tool] = (),
    fillings: Sequence[str] = _FILLINGS,
) -> tuple[int, ...]:
    """Return the ids that all prompts share which tell of ``tools`` and begin with ``messages``.

    A last message of the user's is one that goes on; after any other, the user's comes. The last ids stay out where
    they depend on what follows: a piece of a vocabulary may reach across the seam.

    Raises:
        PromptError: the messages cannot be put that way.
    """
    prompts = [prompt_format.encode(_filled(messages, filling), encoder, tools) for filling in fillings]
    shortest = min(map(len, prompts))
    alike = (len({prompt[place] for prompt in prompts}) == 1 for place in range(shortest))
    length = next((place for place, same in enumerate(alike) if not same), shortest)
    return prompts[0][:length]


def _filled(messages: Sequence[Message], filling: str) -> tuple[Message, ...]:
    if not messages or messages[-1].role is not Role.USER:
        return (*messages, Message(Role.USER, filling))
    return (*messages[:-1], Message(Role.USER, messages[-1].content + filling))
