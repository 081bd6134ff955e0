"""Finds calls between marks in an answer that comes in pieces. Pure."""

import re
from collections.abc import Callable, Sequence
from typing import Protocol

from glmserve.chat.tools.types import AnswerPiece, CallDelta, NewId, Tool, ToolConfig


class Body(Protocol):
    """Reads the rest of a call after its head."""

    @property
    def is_done(self) -> bool:
        """Whether the call is complete."""

    def feed(self, text: str) -> tuple[int, str]:
        """Return how many characters of ``text`` belong to the call, and the JSON of its arguments in them."""


class MarkedParser:
    """See ``AnswerParser``. Blanks around calls belong to neither text nor calls."""

    def __init__(
        self,
        config: ToolConfig,
        new_id: NewId,
        head: tuple[str, str],
        body: Callable[[Tool], Body],
        *,
        only_first: bool,
    ) -> None:
        """Start before the answer.

        Args:
            config: the tools.
            new_id: names the calls.
            head: what stands before and after the name of a tool.
            body: reads the rest of a call.
            only_first: a call comes at the beginning of the answer or after another one.
        """
        self._tools = {tool.name: tool for tool in config.callable}
        names = "|".join(map(re.escape, sorted(self._tools, key=len, reverse=True)))
        before, after = (_with_free_blanks(part) for part in head)
        follows = after or r"(?![\w-])(?=.|\n)"
        pattern = re.compile(rf"\s*{before}({names}){follows}")
        self._find_head = pattern.match if only_first else pattern.search
        self._perhaps = re.compile(
            rf"\s*{_any_start_of([*_atoms(head[0]), '[a-zA-Z0-9_-]{1,128}', *_atoms(head[1])])}\Z"
        )
        self._only_first = only_first
        self._new_id = new_id
        self._make_body = body
        self._body: Body | None = None
        self._buffer = ""
        self._calls = 0
        self._has_text = False

    def feed(self, text: str) -> AnswerPiece:
        """Return the certain part of the answer; see ``AnswerParser``."""
        self._buffer += text
        texts: list[str] = []
        calls: list[CallDelta] = []
        while self._buffer:
            if self._body is not None:
                calls.append(self._take_body(self._body))
                continue
            head = None if self._only_first and self._has_text else self._find_head(self._buffer)
            if head is None:
                texts.append(self._take_text(self._certain()))
                break
            texts.append(self._take_text(head.start()))
            self._buffer = self._buffer[head.end() - head.start() :]
            calls.append(CallDelta(self._calls, id=self._new_id(), name=head.group(1)))
            self._body = self._make_body(self._tools[head.group(1)])
        return AnswerPiece("".join(texts), tuple(delta for delta in calls if delta.name or delta.arguments))

    def finish(self) -> AnswerPiece:
        """Return the buffered text; see ``AnswerParser``."""
        if self._body is not None or (self._calls and not self._buffer.strip()):
            return AnswerPiece()
        return AnswerPiece(self._take_text(len(self._buffer)))

    def _certain(self) -> int:
        """Return how many of the buffered characters cannot become part of a call any more."""
        if self._only_first and self._has_text:
            return len(self._buffer)
        buffered = self._perhaps.search(self._buffer)
        return len(self._buffer) if buffered is None or (self._only_first and buffered.start()) else buffered.start()

    def _take_text(self, size: int) -> str:
        text, self._buffer = self._buffer[:size], self._buffer[size:]
        self._has_text = self._has_text or bool(text.strip())
        return text

    def _take_body(self, body: Body) -> CallDelta:
        size, arguments = body.feed(self._buffer)
        delta = CallDelta(self._calls, arguments)
        self._buffer = self._buffer[size:]
        if body.is_done:
            self._body = None
            self._calls += 1
        return delta


def _with_free_blanks(text: str) -> str:
    return r"\s*".join(map(re.escape, text.split())) + (r"\s*" if text[-1:].isspace() else "") if text.split() else ""


def _atoms(text: str) -> list[str]:
    """Return a regular expression for each character; for blanks, which may be any number, one for all of them."""
    return [r"\s*" if part.isspace() else re.escape(part) for part in re.findall(r"\s+|\S", text)]


def _any_start_of(atoms: Sequence[str]) -> str:
    """Return a regular expression for any strict prefix of ``atoms``."""
    pattern = ""
    for atom in reversed(atoms):
        pattern = f"(?:{atom}{pattern})?"
    return pattern
