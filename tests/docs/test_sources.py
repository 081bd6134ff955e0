"""The pages as they stand in the repository: their links, and that the two languages say the same."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.docs.markdown import Page

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "zh").glob("*.md")])
INTRODUCTIONS = {"metrics.md", "errors.md"}
"""Pages whose English is made from the code: their Chinese says how to read them, and leads there."""
CHINESE = sorted((ROOT / "docs" / "zh").glob("*.md"))
PAIRS = [(ROOT / "docs" / page.name, page) for page in CHINESE if page.name not in INTRODUCTIONS]
PAIRS += [(ROOT / "README.md", page) for page in ROOT.glob("README.zh.md")]


def name(value: object) -> str | None:
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else None


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_each_link_of_a_page_leads_somewhere(path: Path) -> None:
    wrong = [link for link in Page(path).links if not leads_somewhere(path, link)]
    assert wrong == []


def leads_somewhere(path: Path, link: str) -> bool:
    if re.match(r"https?://", link):
        return True
    file, _, anchor = unquote(link).partition("#")
    target = path.parent / file if file else path
    return target.exists() and (not anchor or anchor in Page(target).anchors)


@pytest.mark.parametrize(("english", "chinese"), PAIRS, ids=name)
def test_the_two_languages_have_the_same_code(english: Path, chinese: Path) -> None:
    """Code blocks are equal to the byte, so that each is tested once."""
    ours, theirs = Page(english), Page(chinese)
    assert [block.text for block in theirs.blocks] == [block.text for block in ours.blocks]


@pytest.mark.parametrize(("english", "chinese"), PAIRS, ids=name)
def test_the_two_languages_have_the_same_parts(english: Path, chinese: Path) -> None:
    """A part or a row that was added to one page has to be added to the other."""
    ours, theirs = Page(english), Page(chinese)
    assert (theirs.levels, theirs.rows) == (ours.levels, ours.rows), (
        f"{name(chinese)} has the headings\n{theirs.headings}\nand {name(english)} has\n{ours.headings}"
    )


def test_the_settings_that_are_told_in_chinese_exist() -> None:
    """And have the defaults that are told."""
    cells = re.compile(r"^\| (`--[\w-]+`) \|(?: `GLMSERVE\w+` \| `\w+` \|)? (\S*) ?\|", re.MULTILINE)
    told = cells.findall((ROOT / "docs" / "zh" / "settings.md").read_text("utf-8"))
    assert told
    assert set(told) <= set(cells.findall((ROOT / "docs" / "settings.md").read_text("utf-8")))


def test_the_figures_that_are_told_in_chinese_exist() -> None:
    figures = re.compile(r"`(glmserve:\w+)`")
    told = figures.findall((ROOT / "docs" / "zh" / "metrics.md").read_text("utf-8"))
    assert told
    assert set(told) <= set(figures.findall((ROOT / "docs" / "metrics.md").read_text("utf-8")))


def test_the_error_codes_that_are_told_in_chinese_exist() -> None:
    told = re.findall(r"`([a-z]+_[a-z_]+)`", (ROOT / "docs" / "zh" / "errors.md").read_text("utf-8"))
    assert told
    assert set(told) <= set(
        re.findall(r"^\| \d+ \| `(\w+)`", (ROOT / "docs" / "errors.md").read_text("utf-8"), re.MULTILINE)
    )
