"""SentencePiece's normalisation of text, which llama.cpp leaves out. Pure.

A tokenizer may normalise: nmt_nfkc turns （ into ( and ﬁ into fi, by a table inside tokenizer.model. It may
also have user-defined pieces, such as ``<br>``: they are not normalised, and they are found first, so that
nothing merges with them. ``glmserve convert`` puts the table into the GGUF; the pieces are in its vocabulary.
"""

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass


class NormalizationTable:
    """SentencePiece's ``precompiled_charsmap``: replacements by the text they stand for.

    The bytes are: length of the trie; the trie, a double array of 32-bit units as darts-clone lays them out;
    the replacements, each ended by a zero byte. A leaf of the trie is the offset of its replacement.
    """

    def __init__(self, data: bytes) -> None:
        """Take the table apart. Raises ValueError where it is not one."""
        if len(data) < 8:
            raise ValueError("the normalisation table is cut off")
        (size,) = struct.unpack_from("<I", data)
        if size % 4 or not 4 <= size <= len(data) - 4:
            raise ValueError("the normalisation table is damaged")
        self._units = struct.unpack_from(f"<{size // 4}I", data, 4)
        self._replacements = data[4 + size :]
        # Characters that no rule starts with: most of a Chinese text, so they are looked up once.
        self._plain: set[str] = set()

    def longest(self, text: str, start: int) -> tuple[int, str]:
        """Return the end of the longest rule that ``text`` has at ``start``, and its replacement.

        Without a rule that is the character itself.
        """
        best = start + 1, text[start]
        if text[start] in self._plain:
            return best
        node = _offset(self._units[0])
        for end in range(start, len(text)):
            for byte in text[end].encode("utf-8"):
                node ^= byte
                if node >= len(self._units) or self._units[node] & 0x800000FF != byte:
                    if end == start:
                        self._plain.add(text[start])
                    return best
                unit = self._units[node]
                node ^= _offset(unit)
            if unit >> 8 & 1:
                best = end + 1, self._replacement(self._units[node] & 0x7FFFFFFF)
        return best

    def shortest(self, text: str) -> str | None:
        """Return the replacement of the shortest rule that ``text`` begins with; None where there is none."""
        node = _offset(self._units[0])
        for byte in text.encode("utf-8", "replace"):
            node ^= byte
            if not byte or node >= len(self._units) or self._units[node] & 0x800000FF != byte:
                return None
            unit = self._units[node]
            node ^= _offset(unit)
            if unit >> 8 & 1:
                return self._checked_replacement(node)
        return None

    def _checked_replacement(self, node: int) -> str | None:
        """Return the replacement of a leaf; None where the table is damaged."""
        offset = self._units[node] & 0x7FFFFFFF if node < len(self._units) else len(self._replacements)
        end = self._replacements.find(0, offset)
        return None if end < 0 else self._replacements[offset:end].decode("utf-8", "replace")

    def _replacement(self, offset: int) -> str:
        return self._replacements[offset : self._replacements.index(0, offset)].decode("utf-8")


def _offset(unit: int) -> int:
    return unit >> 10 << ((unit & 1 << 9) >> 6)


@dataclass(frozen=True, slots=True)
class Segment:
    """Part of a text: one user-defined piece, or the text between two of them."""

    text: str
    is_piece: bool


class Normalizer:
    """Normalises text and cuts it at user-defined pieces."""

    def __init__(self, table: NormalizationTable | None, pieces: Iterable[str], *, space_prefix: bool) -> None:
        """Make one for a vocabulary.

        Args:
            table: replacements; None leaves text as it is.
            pieces: the user-defined pieces.
            space_prefix: text starts with a space of the tokenizer's own.
        """
        self._table = table
        self._prefix = " " if space_prefix else ""
        longest_first = sorted(pieces, key=len, reverse=True)
        self._pieces = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def segments(self, text: str) -> Iterator[Segment]:
        """Yield the parts of ``text``, in order and none of them empty. An empty text has none."""
        if not text:
            return
        # Pieces are looked for again: replacements can make new ones.
        normalized = self._prefix + self.normalize(text)
        position = 0
        for found in self._pieces.finditer(normalized):
            if found.start() > position:
                yield Segment(normalized[position : found.start()], is_piece=False)
            yield Segment(found.group(), is_piece=True)
            position = found.end()
        if position < len(normalized):
            yield Segment(normalized[position:], is_piece=False)

    def normalize(self, text: str) -> str:
        """Return ``text`` with everything replaced that the table replaces, but for user-defined pieces."""
        if self._table is None:
            return text
        parts: list[str] = []
        position = 0
        found = self._pieces.search(text)
        while position < len(text):
            if found and found.start() < position:  # a rule reached into a piece
                found = self._pieces.search(text, position)
            elif found and found.start() == position:
                parts.append(found.group())
                position = found.end()
                found = self._pieces.search(text, position)
            else:
                position, replacement = self._table.longest(text, position)
                parts.append(replacement)
        return "".join(parts)
