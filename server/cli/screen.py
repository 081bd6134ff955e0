"""Where tables are printed."""

from rich.console import Console

_PLAIN_WIDTH = 1000
"""Columns where the output is no terminal: each row stays on one line."""


def output() -> Console:
    """Return the standard output; in colour in a terminal alone, and there unless NO_COLOR is set."""
    screen = Console()
    return screen if screen.is_terminal else Console(width=_PLAIN_WIDTH)
