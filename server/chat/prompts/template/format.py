"""A model file's own chat template as a prompt format. Pure: who renders is handed in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from glmserve.chat.prompts.formats import Encoder
from glmserve.chat.prompts.messages import Message, Role, as_text, split_answer
from glmserve.chat.prompts.template.marks import Piece, Special
from glmserve.chat.prompts.template.rendering import Renderer, TemplateInput
from glmserve.chat.tools.plain_text import TextCallFormat
from glmserve.chat.tools.types import CallFormat, Tool, ToolCall


def template_messages(messages: Sequence[Message], *, as_text: bool = False) -> tuple[Mapping[str, object], ...]:
    """Return ``messages``; the arguments of calls are objects, or JSON where a template takes them ``as_text``."""
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    return tuple(_message(message, names, as_text=as_text) for message in messages)


def template_tools(tools: Sequence[Tool]) -> tuple[Mapping[str, object], ...]:
    """Return the declarations of ``tools``."""
    return tuple({"type": "function", "function": tool.definition()} for tool in tools)


def with_system_in_question(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Return ``messages`` for a template without system messages: as in llama.cpp, they begin the next question."""
    found: list[Message] = []
    system: list[str] = []
    for message in messages:
        if message.role is Role.SYSTEM:
            system.append(message.content)
            continue
        if message.role is Role.USER and system:
            found.append(Message(Role.USER, "\n".join([*system, message.content])))
            system = []
            continue
        found.append(message)
    return (*found, Message(Role.USER, "\n".join(system))) if system else tuple(found)


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


_PLAIN = TextCallFormat()
_BLANKS = " \t\n\v\f\r"


@dataclass(frozen=True, slots=True)
class TemplateTraits:
    """The abilities of a template, as its prompts show them."""

    end_tokens: tuple[str, ...] = ()
    """The special tokens that it writes after an answer."""
    takes_system: bool = True
    """Whether it has system messages."""
    calls: CallFormat | None = None
    """How it writes calls; None where tools are described in plain words."""
    arguments_as_text: bool = False
    """Whether it takes the arguments of a call as JSON text."""
    thinks: bool = False
    """Whether it knows of reasoning between ``<think>`` and ``</think>``."""
    options: Mapping[str, object] = field(default_factory=dict)
    """Variables that it is given besides, such as ``enable_thinking``."""


@dataclass(frozen=True, slots=True)
class TemplateFormat:
    """See ``PromptFormat``. Only text of the template itself becomes a special token."""

    renderer: Renderer
    traits: TemplateTraits
    opens_with_blanks: ClassVar[bool] = False
    text_prefix: ClassVar[None] = None
    waits: ClassVar[bool] = True

    @property
    def tool_format(self) -> CallFormat:
        """The format of calls; see ``PromptFormat``."""
        return self.traits.calls or _PLAIN

    @property
    def end_tokens(self) -> tuple[str, ...]:
        """The special tokens that end an answer; see ``PromptFormat``."""
        return self.traits.end_tokens

    @property
    def thinks(self) -> bool:
        """Whether an answer may begin with reasoning; see ``PromptFormat``."""
        return self.traits.thinks

    def with_options(self, options: Mapping[str, object]) -> "TemplateFormat":
        """Return the format with more variables."""
        return replace(self, traits=replace(self.traits, options={**self.traits.options, **options}))

    def encode(
        self, messages: Sequence[Message], encoder: Encoder, tools: Sequence[Tool] = (), *, continued: bool = False
    ) -> tuple[int, ...]:
        """Return the prompt's ids; see ``PromptFormat``."""
        return encode_pieces(self.pieces(messages, tools, continued=continued), encoder)

    def pieces(
        self, messages: Sequence[Message], tools: Sequence[Tool] = (), *, continued: bool = False
    ) -> tuple[Piece, ...]:
        """Return the prompt as the template writes it; see ``encode``."""
        asked, answer = split_answer(messages, continued=continued)
        if self.traits.calls is None:
            asked, tools = as_text(asked, tools, _PLAIN), ()
        if not self.traits.takes_system:
            asked = with_system_in_question(asked)
        told = template_messages(asked, as_text=self.traits.arguments_as_text)
        pieces = self.renderer.render(TemplateInput(told, template_tools(tools), self.traits.options))
        return (*pieces, answer) if answer else pieces


def encode_pieces(pieces: Sequence[Piece], encoder: Encoder) -> tuple[int, ...]:
    """Return a rendered prompt as ids: all text between two special tokens in one go, and the opening once."""
    ids: list[int] = []
    text = ""
    for piece in pieces:
        special = _id(piece, encoder)
        if special is None:
            text += piece.name if isinstance(piece, Special) else piece
            continue
        ids += (*_encoded(text, ids, encoder), special)
        text = ""
    ids += _encoded(text, ids, encoder)
    opening = encoder.opening
    return (*opening, *ids[len(opening) if tuple(ids[: len(opening)]) == opening else 0 :])


def _encoded(text: str, before: Sequence[int], encoder: Encoder) -> tuple[int, ...]:
    """Return the ids of the text up to the next special token; some special tokens swallow the blanks after them."""
    if before and encoder.takes_blanks(before[-1]):
        text = text.lstrip(_BLANKS)
    return encoder.encode(text) if text else ()


def _id(piece: Piece, encoder: Encoder) -> int | None:
    """Return the id of a special token; None for text, and for a name that the vocabulary has as ordinary text."""
    if not isinstance(piece, Special):
        return None
    try:
        return encoder.special_id(piece.name)
    except KeyError:
        return None
