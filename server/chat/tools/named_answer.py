"""Answers that begin with a line of metadata: empty before text, the name of a tool before a call."""

from typing import Protocol

from glmserve.chat.tools.answer_text import text_rule
from glmserve.chat.tools.interface import NewId
from glmserve.chat.tools.types import AnswerPiece, CallDelta, ToolChoice, ToolConfig


class BodyReader(Protocol):
    """Reads the text below the name."""

    def feed(self, text: str) -> str:
        """Return the JSON of the arguments as far as ``text`` completes it."""


def named_answer(config: ToolConfig) -> str:
    """Return the beginning of the grammar of such an answer; the rule ``call`` has to follow."""
    if config.choice is ToolChoice.REQUIRED:
        return "start: call\n"
    if config.text_format is None:
        return "start: text | call\ntext: / ?\\n(.|\\n)*/\n"
    # The text may have the tokenizer's space in front.
    return f"start: line text | call\nline: / ?\\n ?/\n{text_rule(config.text_format)}"


class NamedAnswerParser:
    """Tells a call from text by the first line. Such an answer has one call or is text, and not both."""

    def __init__(self, config: ToolConfig, body: BodyReader, new_id: NewId) -> None:
        """Start before the line of metadata."""
        self._names = [tool.name for tool in config.callable]
        self._body = body
        self._new_id = new_id
        self._line = ""
        self._is_text = False
        self._is_call = False

    def feed(self, text: str) -> AnswerPiece:
        """Return the certain part of the answer; see ``AnswerParser``."""
        if self._is_text:
            return AnswerPiece(text)
        if self._is_call:
            return self._arguments(text)
        self._line += text
        line, newline, rest = self._line.lstrip(" ").partition("\n")
        if newline and line in self._names:
            self._is_call = True
            start = CallDelta(0, id=self._new_id(), name=line)
            return AnswerPiece(calls=(start, *self._arguments(rest).calls))
        perhaps = any(name.startswith(line) for name in self._names) and not newline
        if perhaps or not self._line.strip():
            return AnswerPiece()
        self._is_text = True
        return AnswerPiece(self._line.lstrip())

    def finish(self) -> AnswerPiece:
        """Return the buffered text; see ``AnswerParser``."""
        return AnswerPiece() if self._is_call or self._is_text else AnswerPiece(self._line.lstrip())

    def _arguments(self, text: str) -> AnswerPiece:
        arguments = self._body.feed(text)
        return AnswerPiece(calls=(CallDelta(0, arguments),) if arguments else ())
