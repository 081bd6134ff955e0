"""docs/clients.md: its examples are lines of the programs that are tested."""

import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "clients.md"
PROGRAMS = [*HERE.glob("scripts/*.py"), HERE / "browser_page.html"]
BLOCKS = re.findall(r"^```(?:python|yaml|javascript)\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("line", sorted({line.strip() for block in BLOCKS for line in block.splitlines()}))
def test_an_example_is_a_line_of_a_tested_program(line: str) -> None:
    lines = {each.strip() for program in PROGRAMS for each in program.read_text("utf-8").splitlines()}
    assert line in lines
