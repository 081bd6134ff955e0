"""Log-probabilities of an answer's tokens, given out with the text that the tokens became part of. Pure."""

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PieceLogprob:
    """A token as bytes, with the natural logarithm of its probability."""

    token_id: int
    piece: bytes
    """Its bytes: may be half a character, or empty for a control token."""
    logprob: float | None
    """None for the first token of a prompt, which has no context."""


@dataclass(frozen=True, slots=True)
class TokenLogprob(PieceLogprob):
    """A token of a text."""

    offset: int
    """Characters of the text before it."""
    top: tuple[PieceLogprob, ...] = ()
    """The most probable tokens at this place, the first one first; the token itself may be none of them."""


class LogprobBuffer:
    """Buffers tokens as long as their text is buffered."""

    def __init__(self) -> None:
        self._held: deque[tuple[TokenLogprob, int]] = deque()

    def add(self, token: TokenLogprob, end: int) -> None:
        """Take in the next token, whose text is all there once ``end`` characters are."""
        self._held.append((token, end))

    def released(self, length: int) -> tuple[TokenLogprob, ...]:
        """Return the tokens whose text is within the first ``length`` characters and that were not returned yet."""
        out = []
        while self._held and self._held[0][1] <= length:
            out.append(self._held.popleft()[0])
        return tuple(out)

    def finish(self, length: int, *, cut: bool) -> tuple[TokenLogprob, ...]:
        """Return the rest, as the text has ended; where it was ``cut``, only tokens that begin within ``length``."""
        rest = tuple(token for token, _ in self._held if not cut or token.offset < length)
        self._held.clear()
        return rest
