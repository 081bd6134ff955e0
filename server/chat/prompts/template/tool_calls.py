"""How a chat template writes tools and their calls, found out from its prompts. Pure."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from glmserve.chat.prompts.messages import Message, PromptError, Role
from glmserve.chat.prompts.template.format import template_messages, template_tools
from glmserve.chat.prompts.template.marks import Piece, Special
from glmserve.chat.prompts.template.rendering import Renderer, TemplateInput
from glmserve.chat.tools.marked_calls import CallFrame, JsonCalls, TaggedCalls
from glmserve.chat.tools.types import CallFormat, Tool, ToolCall

_NAME, _OTHER, _RESULT, _QUESTION, _ANSWER = "zqToolqz", "zqOtherqz", "zqResultqz", "zqQuestionqz", "zqAnswerqz"
_ARGUMENTS = {"zqFirstqz": "zqOneqz", "zqSecondqz": "zqTwoqz"}
_ID = "zqIdqz"
_JSON = json.dumps(_ARGUMENTS)
_TOOL = Tool(_NAME, "", {"type": "object", "properties": {name: {"type": "string"} for name in _ARGUMENTS}})
_TOOLS = (_TOOL, Tool(_OTHER, "", _TOOL.parameters))
_OBSERVATION = "<|observation|>"


@dataclass(frozen=True, slots=True)
class FoundCalls:
    """The calls of a template, as its prompts show them."""

    form: CallFormat | None = None
    """None where it has no tools, or writes calls in a way that is not known here."""
    as_text: bool = False
    end_tokens: tuple[str, ...] = field(default=())
    """The special tokens that end a call, and no text."""


def find_calls(renderer: Renderer) -> FoundCalls:
    """Return how the template of ``renderer`` writes calls."""
    if not any(_NAME in piece for piece in _tried(renderer, []) if isinstance(piece, str)):
        return FoundCalls()
    for as_text in (False, True):
        pieces = _tried(renderer, _called(_NAME), as_text=as_text)
        call = _text_of_call(pieces, _header(renderer))
        if call is None:
            continue
        two = _tried(renderer, _called(_NAME, _OTHER), as_text=as_text)
        form = _form(call, two)
        if form is not None:
            ends = tuple({_OBSERVATION for piece in pieces if piece == Special(_OBSERVATION)})
            return FoundCalls(form, as_text, ends)
    return FoundCalls()


def _called(*names: str) -> list[Message]:
    calls = tuple(ToolCall(f"{_ID}{index}", name, _JSON) for index, name in enumerate(names))
    results = [Message(Role.TOOL, _RESULT, tool_call_id=call.id) for call in calls]
    return [Message(Role.ASSISTANT, "", calls), *results]


def _tried(renderer: Renderer, after: Sequence[Message], *, as_text: bool = False) -> tuple[Piece, ...]:
    """Return the prompt of a question and the messages ``after`` it, or nothing where the template rejects it."""
    messages = template_messages((Message(Role.USER, _QUESTION), *after), as_text=as_text)
    try:
        return renderer.render(TemplateInput(messages, template_tools(_TOOLS)))
    except PromptError:
        return ()


def _header(renderer: Renderer) -> tuple[Piece, str]:
    """Return the special token in front of an answer, and the text between it and the answer."""
    pieces = ("", *_tried(renderer, [Message(Role.ASSISTANT, _ANSWER), Message(Role.USER, "x")]))
    for before, piece in pairwise(pieces):
        if isinstance(piece, str) and _ANSWER in piece:
            return before, piece.partition(_ANSWER)[0]
    return "", ""


def _text_of_call(pieces: Sequence[Piece], header: tuple[Piece, str]) -> str | None:
    """Return the call as the template writes it, without the text in front of every answer; None if it is apart."""
    seen = False
    for before, piece in pairwise(("", *pieces)):
        if not isinstance(piece, str):
            continue
        if seen and _NAME in piece and all(value in piece for value in _ARGUMENTS.values()) and before == header[0]:
            text = piece.removeprefix(header[1])
            return re.sub(r"\A\s*<think>.*?</think>", "", text, flags=re.DOTALL).strip()
        seen = seen or _QUESTION in piece
    return None


def _form(call: str, two: Sequence[Piece]) -> CallFormat | None:
    start, found, rest = call.partition(_NAME)
    if not found or not re.match(r"[^\w\s]", start) or _RESULT in rest or _ID in rest:
        return None
    if _JSON in rest:
        between, _, end = rest.partition(_JSON)
        return JsonCalls(CallFrame(start, end, _separator(start, end, two)), between) if between and end else None
    return _tagged(start, rest, two)


def _tagged(start: str, rest: str, two: Sequence[Piece]) -> TaggedCalls | None:
    """Return the form of a call with each argument between marks of its own."""
    first, one, second, other = (re.escape(word) for pair in _ARGUMENTS.items() for word in pair)
    parts = re.fullmatch(rf"(.+?){first}(.+?){one}(.+?){second}(.+?){other}(.+)", rest, re.DOTALL)
    if parts is None or parts[2] != parts[4]:
        return None
    key = _common_end(parts[1], parts[3])
    close = parts[3][: len(parts[3]) - len(key)]
    if parts[1] != key or not key.strip() or not close.strip() or not parts[5].startswith(close):
        return None
    end = parts[5].removeprefix(close)
    return TaggedCalls(CallFrame(start, end, _separator(start, end, two)), key, parts[2], close)


def _common_end(one: str, other: str) -> str:
    size = next((size for size in range(len(one), 0, -1) if other.endswith(one[-size:])), 0)
    return one[len(one) - size :]


def _separator(start: str, end: str, two: Sequence[Piece]) -> str | None:
    """Return the text between two calls of one answer; None where the template cannot have two."""
    for piece in two:
        if isinstance(piece, str) and (last := piece.rfind(_OTHER)) >= 0 and piece.rfind(_NAME, 0, last) >= 0:
            between = piece[piece.rfind(_NAME, 0, last) : last]
            before = between.removesuffix(start)
            at = before.rfind(end.rstrip()) if end.strip() else -1
            if at >= 0 and before != between and not (left := before[at + len(end.rstrip()) :]).strip():
                return left
    return None
