"""Vocabularies of byte pairs, in GPT-2's spelling: a visible character for each byte."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ByteLevelVocabulary:
    """Tokens in the order of their ids, special ones and padding among them."""

    texts: tuple[str, ...]
    """In GPT-2's spelling; special tokens as they are."""
    types: tuple[int, ...]
    merges: tuple[str, ...]
    specials: Mapping[str, int]
    is_merged: bool
    """Whether words come from merges alone; else a word that is a token is that token, whatever the merges say."""


def _visible_bytes() -> tuple[str, ...]:
    """Printable Latin-1 stands for itself, the other bytes for characters from 256 on."""
    plain = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return tuple(chr(byte) if byte in plain else chr(next(others)) for byte in range(256))


VISIBLE = _visible_bytes()
"""By the byte."""


def spell(token: bytes) -> str:
    """Return the spelling of a token."""
    return "".join(VISIBLE[byte] for byte in token)
