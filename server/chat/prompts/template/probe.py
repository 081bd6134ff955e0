"""The abilities of a chat template, found out by a few conversations. Pure."""

import re
from collections.abc import Sequence
from itertools import pairwise

from glmserve.chat.prompts.messages import Message, PromptError, Role
from glmserve.chat.prompts.template.environment import can_think
from glmserve.chat.prompts.template.format import TemplateTraits, template_messages
from glmserve.chat.prompts.template.marks import Piece, Special, TemplateFault
from glmserve.chat.prompts.template.rendering import Renderer, TemplateInput, TemplateSource
from glmserve.chat.prompts.template.tool_calls import find_calls

_QUESTION, _ANSWER, _NEXT, _SYSTEM = "zqQuestionqz", "zqAnswerqz", "zqNextqz", "zqSystemqz"
_REASONING = "zqReasoningqz"
_ENDS_OF_ALL = frozenset({"<|return|>", "<|call|>", "<|calls|>", "<|flush|>"})
_END = re.compile(r"\s*(<[|｜][^\s<>|｜]+[|｜]>|<end_of_turn>)")
"""The word after an answer that ends it: in every known vocabulary a token of its own."""
_ASKED = Message(Role.USER, _QUESTION)
_ROUND = (_ASKED, Message(Role.ASSISTANT, _ANSWER), Message(Role.USER, _NEXT))
_REASONED = (_ASKED, Message(Role.ASSISTANT, _ANSWER, reasoning=_REASONING))


def find_traits(renderer: Renderer, source: TemplateSource) -> TemplateTraits:
    """Return the traits of the template ``source``.

    Raises:
        TemplateFault: it cannot be compiled or render a question, makes special tokens that cannot be told from a
            caller's text, or ends answers with one that the vocabulary does not have.
    """
    try:
        asked = _render(renderer, _ASKED)
    except PromptError as error:
        raise TemplateFault(f"a question alone: {error}") from None
    if not any(_QUESTION in piece for piece in asked if isinstance(piece, str)):
        raise TemplateFault("a question does not appear in its prompt")
    with_round = _tried(renderer, *_ROUND)
    for pieces in (asked, with_round):
        _check_told_apart(pieces, source)
    _check_ends(with_round)
    calls = find_calls(renderer)
    parts = _between_parts(_tried(renderer, *_REASONED))
    with_system = _tried(renderer, Message(Role.SYSTEM, _SYSTEM), _ASKED)
    return TemplateTraits(
        end_tokens=(*(name for name in _after_answer(with_round, source) if name not in parts), *calls.end_tokens),
        takes_system=any(_SYSTEM in piece for piece in with_system if isinstance(piece, str)),
        calls=calls.form,
        arguments_as_text=calls.as_text,
        thinks=can_think(source.text) or can_think(source.with_tools),
    )


def _render(renderer: Renderer, *messages: Message) -> tuple[Piece, ...]:
    return renderer.render(TemplateInput(template_messages(messages)))


def _tried(renderer: Renderer, *messages: Message) -> tuple[Piece, ...]:
    """Return the prompt, or nothing where the template rejects such a conversation."""
    try:
        return _render(renderer, *messages)
    except PromptError:
        return ()


def _after_answer(pieces: Sequence[Piece], source: TemplateSource) -> tuple[str, ...]:
    """Return the special token that stands after the answer, with nothing but blanks between.

    Some models write several messages in one answer; in their vocabularies ``<|end|>`` ends only a message.
    """
    for piece, following in pairwise(pieces):
        if isinstance(piece, str) and piece.rstrip().endswith(_ANSWER) and isinstance(following, Special):
            is_between = following.name == "<|end|>" and not _ENDS_OF_ALL.isdisjoint(source.specials)
            return () if is_between else (following.name,)
    return ()


def _between_parts(pieces: Sequence[Piece]) -> frozenset[str]:
    """Return the special tokens between the reasoning of an answer and its text: they end a part of an answer."""
    found: set[str] = set()
    is_between = False
    for piece in pieces:
        if isinstance(piece, Special):
            found |= {piece.name} if is_between else set()
        elif _ANSWER in piece:
            return frozenset(found)
        else:
            is_between = is_between or _REASONING in piece
    return frozenset()


def _check_told_apart(pieces: Sequence[Piece], source: TemplateSource) -> None:
    names = [name for name in source.specials if len(name) > 2]
    for piece in pieces:
        if isinstance(piece, str) and (found := next((name for name in names if name in piece), "")):
            raise TemplateFault(
                f"it puts the special token {found} together from parts, so that it cannot be told from a caller's text"
            )


def _check_ends(pieces: Sequence[Piece]) -> None:
    """Raise TemplateFault where an answer is ended by a word that is no token: no answer would end there."""
    for piece in pieces:
        if isinstance(piece, str) and (found := _END.match(piece.partition(_ANSWER)[2])):
            raise TemplateFault(
                f"it ends an answer with {found[1]}, which is no special token of the vocabulary; the template is of "
                "another model"
            )
