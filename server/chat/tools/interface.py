"""What a model family does about tools: a form for prompt, grammar and answer that belong together."""

from collections.abc import Callable, Sequence
from typing import Protocol

from glmserve.chat.tools.types import AnswerPiece, Tool, ToolCall, ToolConfig
from glmserve.engine.grammar import Grammar

NewId = Callable[[], str]


class AnswerParser(Protocol):
    """Text of one answer in, text and calls out, however it is cut."""

    def feed(self, text: str) -> AnswerPiece:
        """Return what is certain by now; what may still become a call is held back."""

    def finish(self) -> AnswerPiece:
        """Return what was held back: the answer has ended."""


class ToolCallFormat(Protocol):
    """How a family is told of tools, and how it calls them."""

    def describe(self, tools: Sequence[Tool], system: str) -> str:
        """Return the system message that tells the model of ``tools``, with the caller's ``system`` text in it."""

    def grammar(self, offer: ToolConfig) -> Grammar:
        """Return what the answer must look like, so that every call in it is one that the tools take."""

    def parser(self, offer: ToolConfig, new_id: NewId) -> AnswerParser:
        """Return a parser for one answer; ``new_id`` names its calls."""


class NamedForm(ToolCallFormat, Protocol):
    """The form of a family that names the tool in the line of metadata in front of a message."""

    def body(self, call: ToolCall) -> str:
        """Return what stands below that line, the arguments, as the model would have written it."""
