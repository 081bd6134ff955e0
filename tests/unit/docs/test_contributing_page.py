"""CONTRIBUTING.md names files that exist, and the files of a sampling parameter are all that it takes."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^## (Add [^\n]+)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))
FOLDERS = ("server/", "convert/", "compat/", "models/", "docs/", "tests/", "bench/")


def files_in(text: str) -> list[str]:
    return [code for code in re.findall(r"`([\w./-]+)`", text) if code.startswith(FOLDERS) or code.endswith(".md")]


def test_each_file_that_is_named_is_there() -> None:
    assert len(files_in(TEXT)) > len(SECTIONS)
    assert [file for file in files_in(TEXT) if not (ROOT / file).exists()] == []


@pytest.mark.parametrize("title", ["sampling parameter", "endpoint", "model family", "metric"])
def test_each_thing_that_is_added_has_a_section(title: str) -> None:
    assert any(section.endswith(title) for section in SECTIONS)


def test_the_names_in_a_step_are_in_its_files() -> None:
    for step in re.findall(r"^\d\. .*?(?=^\d\. |^$|\Z)", TEXT, re.MULTILINE | re.DOTALL):
        sources = "".join(
            (ROOT / file).read_text("utf-8") for file in files_in(step) if (ROOT / file).suffix in (".py", ".md")
        )
        names = re.findall(r"`([A-Za-z_]*[A-Z_][A-Za-z_]*)(?:\(\))?`", step)
        assert [name for name in names if not re.search(rf"\b{name}\b", sources)] == [], step


def test_a_sampling_parameter_is_in_the_three_files_that_are_named_and_no_other() -> None:
    section = SECTIONS["Add a sampling parameter"]
    named = {file for file in files_in(section) if file.startswith("server/")}
    code = [file for folder in ("server", "compat", "convert") for file in (ROOT / folder).rglob("*.py")]
    found = {str(file.relative_to(ROOT)) for file in code if re.search(r"\bmin_p\b", file.read_text("utf-8"))}
    assert found == named
    assert len(named) == 3
    assert "min_p" in (ROOT / "tests" / "integration" / "test_sampler.py").read_text("utf-8")


def test_the_hooks_are_tools_of_make_check_and_of_this_repository_alone() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    assert [repository["repo"] for repository in hooks["repos"]] == ["local"]
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for hook in hooks["repos"][0]["hooks"]:
        tool = hook["entry"].removesuffix(" --force-exclude").removeprefix(".venv/bin/")
        assert f"$(BIN)/{tool}" in makefile
