"""Tool calling of a model family: prompt text, grammar and parser that belong together."""

from collections.abc import Callable, Sequence
from typing import Protocol

from glmserve.chat.tools.types import AnswerPiece, Tool, ToolCall, ToolConfig
from glmserve.engine.params import Grammar

NewId = Callable[[], str]


class AnswerParser(Protocol):
    """Text of one answer in, text and calls out, however it is cut."""

    def feed(self, text: str) -> AnswerPiece:
        """Return the certain part of the answer; text that may still become a call is buffered."""

    def finish(self) -> AnswerPiece:
        """Return the buffered text: the answer has ended."""


class ToolCallFormat(Protocol):
    """How a family's prompt lists tools, and how it calls them."""

    def describe(self, tools: Sequence[Tool], system: str) -> str:
        """Return the system message that tells the model of ``tools``, with the caller's ``system`` text in it."""

    def grammar(self, config: ToolConfig) -> Grammar:
        """Return a grammar in which every call is valid for its tool."""

    def parser(self, config: ToolConfig, new_id: NewId) -> AnswerParser:
        """Return a parser for one answer; ``new_id`` names its calls."""


class NamedForm(ToolCallFormat, Protocol):
    """The format of a family that names the tool in the metadata line before a message."""

    def body(self, call: ToolCall) -> str:
        """Return the text below that line, the arguments, as the model would have written it."""
