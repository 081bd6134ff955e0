"""Special tokens that a chat template writes, as one character each while it is rendered. Pure.

A caller's text cannot have these characters: they are lone surrogates, which no encoded text contains. So even if a
template changes the text (trims it, splits it, puts it into JSON), a mark in the result was written by the template,
and what looks like a special token without being a mark is text.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_FIRST, _LAST = 0xD800, 0xDFFF
_MARK = re.compile(f"([{chr(_FIRST)}-{chr(_LAST)}])")

ROLE_NAMES = ("system", "user", "assistant", "tool")
"""Roles that a template may make special tokens of, such as ``<|user|>``: these words are ours, not a caller's."""


class TemplateFault(ValueError):
    """A chat template cannot be used; the message has the reason."""


@dataclass(frozen=True, slots=True)
class Special:
    """A special token at one place of a prompt, by its name in the vocabulary."""

    name: str


Piece = str | Special
"""A part of a prompt: text, or a special token."""


class Marks:
    """A mark for each special token that one template can write."""

    def __init__(self, source: str, names: Iterable[str], always: Iterable[str] = ()) -> None:
        """Choose the marks.

        Args:
            source: the template.
            names: the special tokens of the vocabulary.
            always: those that the template gets as values, such as ``bos_token``.

        Raises:
            TemplateFault: there are more than there are marks.
        """
        wanted = {name for name in names if name and (name in source or _is_joined(name, source))}
        # As llama.cpp looks for them: a longer one before the shorter ones in it.
        self._names = sorted(wanted | set(filter(None, always)), key=lambda name: (-len(name.encode()), name))
        if len(self._names) > _LAST - _FIRST + 1:
            raise TemplateFault(f"it writes {len(self._names)} different special tokens, which are too many")
        self._marks = {name: chr(_FIRST + index) for index, name in enumerate(self._names)}

    def mark(self, literal: str) -> str:
        """Return ``literal``, a string of the template, with marks for its special tokens."""
        for name, mark in self._marks.items():
            literal = literal.replace(name, mark)
        return literal

    def of(self, name: str) -> str:
        """Return the mark of the special token ``name``, or ``name`` as text where that is none."""
        return self._marks.get(name, name)

    def ends(self, before: str, after: str) -> tuple[str, str] | None:
        """Return the two ends of a special token between which a role stands, where ``before`` and ``after`` have them.

        A template may write ``<|`` and a role and ``|>``; the longest such ends are returned.
        """
        found = [
            (start, end)
            for name in self._names
            for start, end in _around_roles(name)
            if before.endswith(start) and after.startswith(end)
        ]
        return max(found, key=lambda pair: (len(pair[0]), len(pair[1])), default=None)

    def pieces(self, rendered: str) -> tuple[Piece, ...]:
        """Return a rendered prompt as special tokens and the text between them."""
        parts = _MARK.split(rendered)
        found = (Special(self._name(part)) if index % 2 else part for index, part in enumerate(parts))
        return tuple(piece for piece in found if piece)

    def _name(self, mark: str) -> str:
        index = ord(mark) - _FIRST
        if index >= len(self._names):
            raise TemplateFault("it writes characters that are no text (lone surrogates)")
        return self._names[index]


def _is_joined(name: str, source: str) -> bool:
    return any(start in source and end in source for start, end in _around_roles(name))


def _around_roles(name: str) -> list[tuple[str, str]]:
    parts = (name.partition(role) for role in ROLE_NAMES)
    return [(start, end) for start, role, end in parts if role and start and end]
