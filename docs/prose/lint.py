"""Checks that pages, docstrings and help texts are written in the words of docs/glossary.md."""

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CODE = ("server", "convert", "compat", "bench", "docs/generate")
_WITH_ATTRIBUTES = ast.Module | ast.ClassDef | ast.FunctionDef
HELP_ARGUMENTS = {"description", "help", "short_help"}
_SENTENCE_END = re.compile(r"(?<=[.!?:;])[)\"”*]*\s+(?=\S)")
_WORD = re.compile(r"[A-Za-z0-9][\w'’%./-]*")
_MARKDOWN = MarkdownIt("commonmark").enable("table")


class Kind(Enum):
    """Where a text stands: each place has rules of its own."""

    PROSE = "prose"
    SUMMARY = "summary"
    DETAILS = "details"
    CHINESE = "chinese"


class Text(NamedTuple):
    """One paragraph, table cell, part of a docstring or help text, without its code spans."""

    path: Path
    line: int
    text: str
    kind: Kind = Kind.PROSE


@dataclass(frozen=True)
class Rules:
    """The patterns of one kind of text, each with its replacement, and the longest sentence in words."""

    patterns: dict[str, str]
    max_words: int | None = None

    @cached_property
    def _any(self) -> re.Pattern[str]:
        """Match where one of the patterns does, in a tenth of their time."""
        return re.compile("|".join(f"(?:{pattern})" for pattern in self.patterns), re.IGNORECASE)

    def findings(self, text: str) -> Iterator[str]:
        """Yield one message for each fault of a sentence: words that an earlier rule has named are not named again."""
        for sentence in _SENTENCE_END.split(text):
            named: set[int] = set()
            for pattern, advice in self.patterns.items() if self._any.search(sentence) else ():
                found = re.search(pattern, sentence, re.IGNORECASE)
                if found and named.isdisjoint(range(*found.span())):
                    named.update(range(*found.span()))
                    yield f'"{found[0].strip()}": {advice}'
            words = len(_WORD.findall(sentence))
            if self.max_words and words > self.max_words:
                yield f'{words} words in a sentence, at most {self.max_words}: "{sentence[:60]}…"'


def load_rules(file: Path = HERE / "rules.toml") -> dict[Kind, Rules]:
    """Read the rules of each kind of text."""
    data = tomllib.loads(file.read_text("utf-8"))
    details = _bounded({**data["terms"], **data["pronouns"]})
    prose = {**details, **_bounded(data["hanging"])}
    return {
        Kind.DETAILS: Rules(details),
        Kind.PROSE: Rules(prose, data["max_words"]),
        Kind.SUMMARY: Rules({**prose, **_bounded(data["summaries"])}, data["max_words"]),
        Kind.CHINESE: Rules(data["chinese"]),
    }


def _bounded(patterns: dict[str, str]) -> dict[str, str]:
    return {rf"(?:^|\b)(?:{pattern})(?:\b|(?<= ))": advice for pattern, advice in patterns.items()}


def markdown_texts(path: Path) -> Iterator[Text]:
    """Yield the paragraphs, headings and table cells of a page; code is left out."""
    line = 1
    for token in _MARKDOWN.parse(path.read_text("utf-8")):
        line = token.map[0] + 1 if token.map else line
        if token.type == "inline":
            yield Text(path, line, "".join(_prose(child) for child in token.children or ()))


def _prose(part: Token) -> str:
    if part.type == "code_inline":
        return "`"
    return part.content if part.type == "text" else " " * part.type.endswith("break")


def python_texts(path: Path) -> Iterator[Text]:
    """Yield the docstrings, also of attributes, and the constant help texts of a module."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        for docstring in _attribute_docstrings(node):
            yield Text(path, docstring.lineno, _without_code(str(docstring.value)))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            line = getattr(node, "lineno", 1)
            for number, part in enumerate((ast.get_docstring(node) or "").split("\n\n")):
                yield Text(path, line, _without_code(part), Kind.DETAILS if number else Kind.SUMMARY)
        elif isinstance(node, ast.keyword) and node.arg in HELP_ARGUMENTS and isinstance(node.value, ast.Constant):
            yield Text(path, node.value.lineno, _without_code(str(node.value.value)))


def _attribute_docstrings(node: ast.AST) -> Iterator[ast.Constant]:
    for above, below in pairwise(getattr(node, "body", None) or ()) if isinstance(node, _WITH_ATTRIBUTES) else ():
        is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        if is_text and isinstance(above, ast.Assign | ast.AnnAssign):
            yield below.value


def _without_code(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"`+[^`]*`+", "`", text))


def main() -> int:
    """Check the files that are named, or all of the project; return 1 if there is a finding."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    files = parser.parse_args().files or [*default_files()]
    count = 0
    for text, message in check(files):
        print(f"{text.path}:{text.line}: {message}")
        count += 1
    print(f"{count} findings in {len(files)} files", file=sys.stderr)
    return int(count > 0)


def default_files() -> Iterator[Path]:
    """Yield every page and every module that the rules hold for."""
    yield from sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
    for folder in CODE:
        yield from sorted((ROOT / folder).rglob("*.py"))


def check(files: list[Path]) -> Iterator[tuple[Text, str]]:
    """Yield each finding with its place."""
    rules = load_rules()
    for path in files:
        is_chinese = "zh" in path.parts or path.name.endswith(".zh.md")
        for text in python_texts(path) if path.suffix == ".py" else markdown_texts(path):
            kind = Kind.CHINESE if is_chinese else text.kind
            yield from ((text, message) for message in rules[kind].findings(text.text))


if __name__ == "__main__":
    sys.exit(main())
