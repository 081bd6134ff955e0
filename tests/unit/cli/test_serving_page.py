"""The examples of docs/serving.md are what the commands and the settings take, and its lists are complete."""

import re
import shlex
from pathlib import Path

import click
import pytest

from models.catalog import CATALOG
from server.cli import main
from server.settings.layers import load_settings

PAGE = (Path(__file__).parents[3] / "docs" / "serving.md").read_text("utf-8")
FILES = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [line for line in re.findall(r"^glmserve .*$", PAGE, re.MULTILINE) if " convert " not in line]


@pytest.mark.parametrize("text", FILES)
def test_a_file_can_be_read(text: str, tmp_path: Path) -> None:
    file = tmp_path / "glmserve.toml"
    file.write_text(text)
    assert load_settings({}, {}, file).models


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_has_the_arguments_and_flags_it_is_called_with(line: str) -> None:
    _, name, *args = shlex.split(line, comments=True)
    command = main.get_command(click.Context(main), name)
    assert command is not None
    command.make_context(name, args)


def test_there_are_examples() -> None:
    assert len(FILES) == 2
    assert {line.split()[1] for line in COMMANDS} == {"serve", "doctor", "pull", "list"}


def test_every_known_model_and_every_prompt_format_is_named() -> None:
    assert [f"`{entry.name}`" for entry in CATALOG if entry.repository and f"`{entry.name}`" not in PAGE] == []
    assert [entry.prompt_format for entry in CATALOG if f"`{entry.prompt_format}`" not in PAGE] == []


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)]+)\)", PAGE))
def test_a_link_leads_somewhere(link: str) -> None:
    assert (Path(__file__).parents[3] / "docs" / link).exists()
