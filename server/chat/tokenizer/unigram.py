"""XLM-RoBERTa's tokenizer: of all ways to cut a text into pieces, the likeliest one. Pure.

It does as the ``tokenizers`` library does with a ``tokenizer.json``. The library applies SentencePiece's table of
replacements to what Unicode calls a grapheme, where SentencePiece and llama.cpp look for the longest match.
"""

import re
import unicodedata
from collections.abc import Collection, Mapping
from functools import cache

from glmserve.chat.tokenizer.normalizer import NormalizationTable

_MARK = "▁"
"""Stands for a space in front of a word."""

_PENALTY = 10.0
"""How much less likely an unknown character is than the unlikeliest piece."""

_CACHED_WORDS = 1 << 16
_CACHED_CHARACTERS = 32
"""Longer words, such as Chinese sentences, hardly come twice."""

_SPACE = re.compile("[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")
_RUNS = re.compile(" {2,}")
_SHORT_GRAPHEME = 6
"""Bytes from which on the library replaces a grapheme character by character."""


class _Replaced(dict[int, str]):
    """The replacement of each character by code point, for ``str.translate``, filled as characters come."""

    def __init__(self, table: NormalizationTable) -> None:
        super().__init__()
        self._table = table

    def __missing__(self, point: int) -> str:
        found = self._table.shortest(chr(point))
        self[point] = result = chr(point) if found is None else found
        return result


class CharacterMap:
    """SentencePiece's replacements, as the ``tokenizers`` library applies them."""

    def __init__(self, data: bytes) -> None:
        """Take the table apart. Raises ValueError where it is not one."""
        self._table = NormalizationTable(data)
        self._single = _Replaced(self._table)

    def apply(self, text: str) -> str:
        """Return ``text`` with all replacements made."""
        if text.isascii():
            return text.replace("\r\n", "\n").translate(self._single)
        parts = []
        position = 0
        for cluster in _clusters().finditer(text):
            parts.append(text[position : cluster.start()].translate(self._single))
            parts.append(self._of_cluster(cluster.group()))
            position = cluster.end()
        parts.append(text[position:].translate(self._single))
        return "".join(parts)

    def _of_cluster(self, cluster: str) -> str:
        if len(cluster.encode("utf-8", "replace")) < _SHORT_GRAPHEME:
            found = self._table.shortest(cluster)
            if found is not None:
                return found
        return cluster.translate(self._single)


@cache
def _clusters() -> "re.Pattern[str]":
    """Return the pattern of graphemes of several characters, as far as they have fewer than six bytes."""
    points = [chr(i) for i in range(0x20000)]
    marks = [
        *(c for c in points if _extends(c)),
        *map(chr, range(0xE0020, 0xE0080)),
        *map(chr, range(0xE0100, 0xE01F0)),
    ]
    breaks = [c for c in points if unicodedata.category(c) in ("Cc", "Zl", "Zp", "Cs") or _is_format(c)]
    return re.compile(f"\r\n|{_PREPENDED}?[^{_set_of(breaks)}][{_set_of(marks)}]+|{_PREPENDED}[^{_set_of(breaks)}]")


_PREPENDED = "[\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\u0d4e]"
"""Signs that belong to the character that follows them."""


def _extends(character: str) -> bool:
    if character in "\u200c\u200d\uff9e\uff9f\u0e33\u0eb3" or "\U0001f3fb" <= character <= "\U0001f3ff":
        return True
    return unicodedata.category(character) in ("Mn", "Me", "Mc")


def _is_format(character: str) -> bool:
    return unicodedata.category(character) == "Cf" and not re.match(f"[\u200c\u200d]|{_PREPENDED}", character)


def _set_of(characters: Collection[str]) -> str:
    """Return the inside of a character class, as ranges."""
    points = sorted(map(ord, characters))
    starts = [p for i, p in enumerate(points) if not i or points[i - 1] != p - 1]
    ends = [p for i, p in enumerate(points) if i + 1 == len(points) or points[i + 1] != p + 1]
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in zip(starts, ends, strict=True))


class Unigram:
    """The pieces of a vocabulary with their scores, and the changes of a text before."""

    def __init__(
        self,
        pieces: Mapping[str, tuple[int, float]],
        unknown: int,
        charsmap: CharacterMap | None,
        *,
        lowest: float,
        spaces: Collection[str] = ("split",),
    ) -> None:
        """Make one.

        Args:
            pieces: id and score of each piece; the score is the logarithm of its probability.
            unknown: id of characters that no piece has.
            charsmap: replacements; None leaves text as it is.
            lowest: the lowest score of all.
            spaces: ``split``: words are what white space separates; ``merge``: of several spaces one is left;
                ``right``: none is left at the end.
        """
        self._pieces = pieces
        self._unknown = unknown
        self._charsmap = charsmap
        self._unknown_score = lowest - _PENALTY
        self._spaces = frozenset(spaces)
        self._longest: dict[str, int] = {}
        for piece in pieces:
            if piece:
                self._longest[piece[0]] = max(self._longest.get(piece[0], 1), len(piece))
        self._words: dict[str, tuple[int, ...]] = {}

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of ``text``; text that looks like a special token stays text."""
        ids: list[int] = []
        for word in self._split(self._charsmap.apply(text) if self._charsmap else text):
            known = self._words.get(word)
            ids += self._remember(word) if known is None else known
        return tuple(ids)

    def _split(self, text: str) -> list[str]:
        """Return the words of a text, each with its mark."""
        if "right" in self._spaces:
            text = _SPACE.sub("", text[::-1], 1)[::-1] if text[-1:] and _SPACE.match(text[-1]) else text
        if "merge" in self._spaces:
            text = _RUNS.sub(" ", text)
        if not text:
            return []
        parts = [part for part in _SPACE.split(text) if part] if "split" in self._spaces else [text]
        words = []
        for part in parts:
            marked = part.replace(" ", _MARK)
            words += _WORD.findall(marked if marked.startswith(_MARK) else _MARK + marked)
        return words

    def _remember(self, word: str) -> tuple[int, ...]:
        found = self._best(word)
        if len(word) <= _CACHED_CHARACTERS:
            if len(self._words) >= _CACHED_WORDS:
                self._words.clear()
            self._words[word] = found
        return found

    def _best(self, word: str) -> tuple[int, ...]:
        """Return the pieces of the likeliest way through ``word``: from each place, the best way to the next ones."""
        pieces, longest, unknown_score = self._pieces, self._longest, self._unknown_score
        size = len(word)
        score = [float("-inf")] * (size + 1)
        score[0] = 0.0
        came: list[tuple[int, int]] = [(0, self._unknown)] * (size + 1)
        for start in range(size):
            so_far = score[start]
            alone = False
            for end in range(start + 1, min(size, start + longest.get(word[start], 1)) + 1):
                piece = pieces.get(word[start:end])
                if piece is None:
                    continue
                alone |= end == start + 1
                if so_far + piece[1] > score[end]:
                    score[end], came[end] = so_far + piece[1], (start, piece[0])
            if not alone and so_far + unknown_score > score[start + 1]:
                score[start + 1], came[start + 1] = so_far + unknown_score, (start, self._unknown)
        return self._way_back(came)

    def _way_back(self, came: list[tuple[int, int]]) -> tuple[int, ...]:
        """Return the ids of the best way; unknown characters in a row are one."""
        ids: list[int] = []
        end = len(came) - 1
        while end:
            end, token = came[end]
            if not (token == self._unknown and ids and ids[-1] == token):
                ids.append(token)
        return tuple(reversed(ids))


_WORD = re.compile(f"{_MARK}[^{_MARK}]*|[^{_MARK}]+")
