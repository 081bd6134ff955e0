"""The formatter of help in any language: no window of 40 columns or more cuts a line off."""

import re
from collections.abc import Iterable

import click

WORDS = re.compile(r"（?(?:[!-~]+|.)[，。；：、）]*")
"""What stays in one line: a word, or a Chinese character, with the marks that end or begin no line."""
_LEAST = 16
"""Columns that a description has at least."""
_INDENT = 2


def cells(text: str) -> int:
    """Return the columns that ``text`` takes in a terminal."""
    from rich.cells import cell_len  # noqa: PLC0415 - the list of commands does without rich

    return cell_len(text)


class Bounded(click.HelpFormatter):
    """click's formatter, whose first column leaves room for the longest word of the second one."""

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write a list of options or commands."""
        given = list(rows)
        longest = max((cells(word) for _, text in given for word in WORDS.findall(text)), default=0)
        col_max = max(2, min(col_max, self.width - _INDENT - col_spacing - max(longest, _LEAST)))
        first = min(max(len(name) for name, _ in given), col_max) + col_spacing
        columns = max(self.width - first - _INDENT, 10)
        shown = [(self._broken(name), self.described(text, columns)) for name, text in given]
        super().write_dl(shown, col_max, col_spacing)

    def described(self, text: str, columns: int) -> str:
        """Return a description for the second column, which click wraps."""
        del columns
        return text

    def _broken(self, name: str) -> str:
        """Return ``name``; a list of choices that is longer than a line goes on in the next one."""
        lines = [""]
        for part in re.findall(r"[^|]+\|?", name):
            if lines[-1] and len(lines[-1] + part) > self.width - self.current_indent:
                lines.append(" " * (self.current_indent + 4))
            lines[-1] += part
        return "\n".join(lines)
