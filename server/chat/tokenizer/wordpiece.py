"""BERT's tokenizer: text to words, words to pieces. Pure.

It does as the ``tokenizers`` library does, which trained the models. llama.cpp differs for words of more than 100
characters, and for some hundred characters that it takes for another kind or another case.
"""

import unicodedata
from collections.abc import Mapping

from glmserve.chat.tokenizer.unicode8 import left_out, nonspacing_marks, punctuation

_WORD_CHARACTERS = 100
"""Longer words are unknown."""

_CACHED_WORDS = 1 << 16

_CHINESE = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip
"""Characters that are words; the sixth range begins where the library has it begin, not where Unicode does."""

_SPACES = frozenset("\t\n\r \xa0\u1680\u2028\u2029\u202f\u205f\u3000") | frozenset(map(chr, range(0x2000, 0x200B)))


class _Normalized(dict[int, str]):
    """The replacement of each character by code point, for ``str.translate``, filled as characters come."""

    def __init__(self, *, lowercase: bool, strip_accents: bool) -> None:
        super().__init__()
        self._lowercase = lowercase
        self._strip_accents = strip_accents

    def __missing__(self, point: int) -> str:
        self[point] = result = self._normalize(chr(point))
        return result

    def _normalize(self, character: str) -> str:
        if character in _SPACES:
            return " "
        if character == "\ufffd" or character in left_out() or unicodedata.category(character) in ("Co", "Cs"):
            return ""
        text = character
        if self._strip_accents:
            text = "".join(c for c in unicodedata.normalize("NFD", text) if c not in nonspacing_marks())
        if self._lowercase:
            text = "".join(c.lower() for c in text)
        text = "".join(f" {c} " if _is_punctuation(c) else c for c in text)
        return f" {text} " if any(first <= ord(character) <= last for first, last in _CHINESE) else text


def _is_punctuation(character: str) -> bool:
    if character < "\x7f":
        return not character.isalnum() and character > " "
    return character in punctuation()


class WordPiece:
    """The pieces of a vocabulary, and what text becomes before it is cut into them."""

    def __init__(
        self,
        first: Mapping[str, int],
        following: Mapping[str, int],
        unknown: int,
        *,
        lowercase: bool = True,
        strip_accents: bool = True,
    ) -> None:
        """Make one of the pieces that begin a word, the pieces that continue one, and the id of unknown words."""
        self._first = first
        self._following = following
        self._unknown = (unknown,)
        self._table = _Normalized(lowercase=lowercase, strip_accents=strip_accents)
        self._longest = max(map(len, (*first, *following)), default=1)
        self._words: dict[str, tuple[int, ...]] = {}

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of ``text``; text that looks like a special token stays text."""
        words = self._words
        ids: list[int] = []
        for word in text.translate(self._table).split():
            known = words.get(word)
            ids += self._remember(word) if known is None else known
        return tuple(ids)

    def _remember(self, word: str) -> tuple[int, ...]:
        if len(self._words) >= _CACHED_WORDS:
            self._words.clear()
        self._words[word] = found = self._pieces(word)
        return found

    def _pieces(self, word: str) -> tuple[int, ...]:
        """Cut off the longest piece that there is, again and again; a word with a rest is unknown."""
        if len(word) > _WORD_CHARACTERS:
            return self._unknown
        ids: list[int] = []
        start = 0
        while start < len(word):
            pieces = self._following if start else self._first
            for end in range(min(len(word), start + self._longest), start, -1):
                if (found := pieces.get(word[start:end])) is not None:
                    ids.append(found)
                    start = end
                    break
            else:
                return self._unknown
        return tuple(ids)
