"""What a Markdown page holds, as a code host reads it: headings with their anchors, links, code blocks, tables."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

_PARSER = MarkdownIt("commonmark").enable("table")


@dataclass(frozen=True)
class Block:
    """One fenced block of code."""

    page: str
    line: int
    """Of its first line of code, counted from 1."""
    language: str
    text: str


class Page:
    """One Markdown file."""

    def __init__(self, path: Path) -> None:
        self._name = path.name
        self._tokens = _PARSER.parse(path.read_text("utf-8"))

    @cached_property
    def _titles(self) -> list[tuple[int, str]]:
        pairs = zip(self._tokens, self._tokens[1:], strict=False)
        return [(int(mark.tag[1]), _text(title)) for mark, title in pairs if mark.type == "heading_open"]

    @property
    def levels(self) -> list[int]:
        """How deep each heading is."""
        return [level for level, _ in self._titles]

    @property
    def headings(self) -> list[str]:
        """The texts of the headings."""
        return [title for _, title in self._titles]

    @property
    def anchors(self) -> set[str]:
        """As a code host makes them from headings."""
        return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in self.headings}

    @property
    def rows(self) -> int:
        """The rows of all tables."""
        return sum(token.type == "tr_open" for token in self._tokens)

    @property
    def links(self) -> list[str]:
        """The targets of links and images."""
        inline = [child for token in self._tokens for child in token.children or ()]
        targets = [token.attrGet("href") or token.attrGet("src") for token in inline]
        return [str(target) for target in targets if target]

    @property
    def blocks(self) -> list[Block]:
        """The fenced blocks of code, in their order."""
        fences = [token for token in self._tokens if token.type == "fence"]
        return [Block(self._name, (token.map or [0])[0] + 2, token.info.strip(), token.content) for token in fences]


def _text(inline: Token) -> str:
    return "".join(child.content for child in inline.children or ())
