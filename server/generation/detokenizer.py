"""Token bytes to text as it may be sent on: whole characters, nothing past a stop string, reasoning apart. Pure.

The log-probability of a token is given out with the text that it became part of.
"""

from __future__ import annotations

import codecs
from collections import deque
from dataclasses import dataclass


class Detokenizer:
    """Bytes of tokens in, text out; never half a character.

    However the bytes are cut, the pieces add up to ``bytes.decode("utf-8", "replace")`` of all of them,
    less the one space that the dummy prefix puts in front of the first piece where the vocabulary has one.
    """

    def __init__(self, *, strip_leading_space: bool) -> None:
        """``strip_leading_space``: the vocabulary has a dummy prefix."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._strip = strip_leading_space

    @property
    def strips_next(self) -> bool:
        """Whether the next piece that has bytes loses a space in front."""
        return self._strip

    @property
    def is_whole(self) -> bool:
        """Whether no character is unfinished."""
        return not self._decoder.getstate()[0]

    def feed(self, piece: bytes) -> str:
        """Return the characters that ``piece`` completes, or that it shows to be invalid, as U+FFFD."""
        if self._strip and piece:
            self._strip = False
            piece = piece.removeprefix(b" ")
        return self._decoder.decode(piece)

    def finish(self) -> str:
        """Return the replacement of an unfinished character at the end."""
        return self._decoder.decode(b"", final=True)


class StopChecker:
    """Text in, text out up to the first stop string, which is cut off.

    Text that may be the start of a stop string is buffered until that is settled. The first to be complete
    wins, and of several that end at the same place the longest, so the answer does not depend on how the text
    was cut.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        """``stops`` may be empty; none of them may be the empty string."""
        self._stops = stops
        self._buffer = ""
        self._found: str | None = None

    @property
    def found(self) -> str | None:
        """The stop string that was found; nothing comes out after it."""
        return self._found

    @property
    def stopped(self) -> bool:
        """Whether a stop string was found."""
        return self._found is not None

    def feed(self, text: str) -> str:
        """Return the part of the text that is certain to belong to the answer and was not returned yet."""
        if self.stopped:
            return ""
        buffer = self._buffer + text
        match = self._first_match(buffer)
        if match is not None:
            start, self._found = match
            self._buffer = ""
            return buffer[:start]
        keep = max((_overlap(buffer, stop) for stop in self._stops), default=0)
        certain = len(buffer) - keep
        self._buffer = buffer[certain:]
        return buffer[:certain]

    def finish(self) -> str:
        """Return the buffered text: the text has ended, so it is no stop string."""
        text, self._buffer = self._buffer, ""
        return text

    def _first_match(self, buffer: str) -> tuple[int, str] | None:
        """Return where the stop string begins that is complete first, and the string."""
        matches = [(start + len(stop), start, stop) for stop in self._stops if (start := buffer.find(stop)) >= 0]
        return min(matches)[1:] if matches else None


def _overlap(text: str, stop: str) -> int:
    """Return how many characters at the end of ``text`` are a start of ``stop``, less than all of it."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if stop.startswith(text[-size:])), 0)


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token of a text as bytes, with the natural logarithm of its probability."""

    token_id: int
    piece: bytes
    """Its bytes: may be half a character, or empty for a control token."""
    logprob: float | None
    """None for the first token of a prompt, which has no context."""
    offset: int
    """Characters of the text before it."""
    top: tuple[TokenLogprob, ...] = ()
    """The most probable tokens at this place, the first one first; the token itself may be none of them."""


class LogprobBuffer:
    """Buffers tokens as long as their text is buffered."""

    def __init__(self) -> None:
        self._buffered: deque[tuple[TokenLogprob, int]] = deque()

    def add(self, token: TokenLogprob, end: int) -> None:
        """Take in the next token, whose text is all there once ``end`` characters are."""
        self._buffered.append((token, end))

    def released(self, length: int) -> tuple[TokenLogprob, ...]:
        """Return the tokens whose text is within the first ``length`` characters and that were not returned yet."""
        out = []
        while self._buffered and self._buffered[0][1] <= length:
            out.append(self._buffered.popleft()[0])
        return tuple(out)

    def finish(self, length: int, *, cut: bool) -> tuple[TokenLogprob, ...]:
        """Return the rest, as the text has ended; where it was ``cut``, only tokens that begin within ``length``."""
        rest = tuple(token for token, _ in self._buffered if not cut or token.offset < length)
        self._buffered.clear()
        return rest


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
        buffered = next((size for size in range(len(_CLOSE) - 1, 0, -1) if inside.endswith(_CLOSE[:size])), 0)
        certain = inside[: len(inside) - buffered].rstrip()
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
