"""The reasoning of an answer, which a model writes between ``<think>`` and ``</think>`` before its text. Pure."""

from dataclasses import dataclass

_OPEN, _CLOSE = "<think>", "</think>"


@dataclass(frozen=True, slots=True)
class ReasonedPiece:
    """A piece of an answer: reasoning, and the text after it."""

    reasoning: str = ""
    text: str = ""


def opens_reasoning(prompt_end: bytes) -> bool:
    """Tell whether a prompt that ends so leaves the answer within its reasoning."""
    return prompt_end.rstrip().endswith(_OPEN.encode())


class ReasoningParser:
    """Tells reasoning from text, however the answer is cut. Blanks around the reasoning belong to neither."""

    def __init__(self, *, is_open: bool) -> None:
        """Start before the answer; ``is_open`` where the prompt has begun the reasoning."""
        self._buffer = ""
        self._before = not is_open
        self._skips_blanks = True
        self.is_reasoning = is_open
        self.dropped = 0
        """Characters of the answer that were no text."""

    def feed(self, text: str) -> ReasonedPiece:
        """Return the certain part of the answer that was not returned yet."""
        self._buffer += text
        if self._before and not self._begins():
            return ReasonedPiece()
        reasoning = self._reasoning() if self.is_reasoning else ""
        return ReasonedPiece(reasoning, "" if self.is_reasoning else self._text())

    def finish(self) -> ReasonedPiece:
        """Return the buffered part: the answer has ended."""
        rest, self._buffer = self._buffer, ""
        if not self.is_reasoning:
            return ReasonedPiece(text=rest if self._before or not self._skips_blanks else rest.lstrip())
        self.dropped += len(rest)
        return ReasonedPiece(reasoning=rest.rstrip())

    def _begins(self) -> bool:
        """Find out whether the answer begins with reasoning. Returns whether that is certain."""
        head = self._buffer.lstrip()
        if _OPEN.startswith(head) and head != _OPEN:
            return False
        self._before = False
        self.is_reasoning = head.startswith(_OPEN)
        self._skips_blanks = self.is_reasoning
        if self.is_reasoning:
            self._drop(len(self._buffer) - len(head) + len(_OPEN))
        return True

    def _reasoning(self) -> str:
        if self._skips_blanks:
            self._drop(len(self._buffer) - len(self._buffer.lstrip()))
            self._skips_blanks = not self._buffer
        inside, mark, _ = self._buffer.partition(_CLOSE)
        if mark:
            self.is_reasoning, self._skips_blanks = False, True
            self._drop(len(inside) + len(mark))
            return inside.rstrip()
        # What may become the mark, and blanks that may stand before it.
        held = next((size for size in range(len(_CLOSE) - 1, 0, -1) if inside.endswith(_CLOSE[:size])), 0)
        certain = inside[: len(inside) - held].rstrip()
        self._drop(len(certain))
        return certain

    def _text(self) -> str:
        if self._skips_blanks:
            self._drop(len(self._buffer) - len(self._buffer.lstrip()))
            self._skips_blanks = not self._buffer
        text, self._buffer = self._buffer, ""
        return text

    def _drop(self, size: int) -> None:
        self._buffer = self._buffer[size:]
        self.dropped += size
