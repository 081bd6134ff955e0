"""The page of the architecture names packages, files and functions that exist, and stays one page."""

import re
from pathlib import Path

import pytest

from tests.docs.markdown import Page

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "src" / "glmserve"
PAGE = ROOT / "docs" / "architecture.md"
PAGES = [PAGE, ROOT / "docs" / "engine.md"]
MOST_OBJECTS = 30
NO_PACKAGES = {"sphinx", "models"}


def inline_code(path: Path) -> list[str]:
    text = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
    return [re.sub(r"\s+", " ", code) for code in re.findall(r"`([^`]+)`", text)]


def named(path: Path) -> list[tuple[str, str]]:
    """Files with what is said to be in them, such as ``engine/sequence.py`` and ``Sequence``."""
    places = [re.fullmatch(r"([\w/]+\.py)(?:: ([\w.]+)(?:\(\))?)?", code) for code in inline_code(path)]
    return sorted({(place[1], place[2] or "") for place in places if place and "/" in place[1]})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_file_and_each_function_that_is_named_is_there(page: Path) -> None:
    assert named(page)
    for file, names in named(page):
        source = (PACKAGE / file).read_text("utf-8")
        for name in filter(None, names.split(".")):
            assert re.search(rf"^ *(async )?(def|class) {name}\b", source, re.MULTILINE), f"{file} has no {name}"


def test_each_function_of_a_class_that_is_named_is_there() -> None:
    calls = {code for code in inline_code(PAGE) if re.fullmatch(r"[A-Z]\w+\.\w+\(\)", code)}
    sources = "".join(file.read_text("utf-8") for file in (ROOT / "server").rglob("*.py"))
    for call in calls:
        name, _, function = call.removesuffix("()").partition(".")
        assert re.search(rf"^class {name}\b", sources, re.MULTILINE), call
        assert re.search(rf"^    (async )?def {function}\b", sources, re.MULTILINE), call


def test_the_tree_has_each_package_and_no_other() -> None:
    tree = PAGE.read_text("utf-8").partition("## The tree")[2].partition("## Layers")[0]
    drawn = set(re.findall(r"^ *([\w/]+)/ ", tree, re.MULTILINE)) - {"server", "docs/generate", "compat", "convert"}
    top = {folder.name for folder in (ROOT / "server").iterdir() if (folder / "__init__.py").exists()}
    inner = {
        folder.name
        for package in ("api", "chat", "engine")
        for folder in (ROOT / "server" / package).iterdir()
        if (folder / "__init__.py").exists()
    }
    assert drawn - NO_PACKAGES == top | inner


def test_each_object_of_the_table_is_a_class_and_there_are_few() -> None:
    table = PAGE.read_text("utf-8").partition("## Objects")[2]
    rows = re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)
    sources = "".join(file.read_text("utf-8") for file in (ROOT / "server").rglob("*.py"))
    unknown = [
        name
        for row in rows
        for name in re.findall(r"`(\w+)`", row)
        if not re.search(rf"^class {name}\b", sources, re.MULTILINE)
    ]
    assert rows
    assert unknown == []
    assert Page(PAGE).rows - 1 <= MOST_OBJECTS
