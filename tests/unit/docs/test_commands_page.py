"""The commands and flags that README and docs name are those that there are, and the schemas those that are printed."""

import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from glmserve.cli import list as listing
from glmserve.cli.bench.command import BenchReport
from glmserve.cli.chat.slash_commands import COMMANDS, SAMPLING
from glmserve.cli.doctor import DoctorReport
from glmserve.cli.inspect.report import InspectReport
from glmserve.cli.list import ListedModel
from glmserve.cli.main import main
from glmserve.convert.pipeline import ConversionReport

ROOT = Path(__file__).parents[3]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "zh").glob("*.md")))
COMMANDS_PAGE = ROOT / "docs" / "commands.md"
CALL = re.compile(r"glmserve (?P<command>[a-z]+(?:-[a-z]+)*)(?P<rest>(?:[^\n`|;)#&]|\\\n)*)")
FLAG = re.compile(r"(?<![\w-])--?[a-z][\w-]*")


def group() -> dict[str, click.Command]:
    context = click.Context(main)
    commands = {name: main.get_command(context, name) for name in main.list_commands(context)}
    return {name: command for name, command in commands.items() if command is not None}


GROUP = group()
FLAGS = {
    name: {spelling for option in command.params for spelling in (*option.opts, *option.secondary_opts)}
    | {"--help", "-h"}
    for name, command in GROUP.items()
}


def calls(page: Path) -> list[re.Match[str]]:
    """Every call in code: of a console block, or inline."""
    text = page.read_text("utf-8")
    blocks = re.findall(r"```(?:console|bash|sh|yaml|ini)?\n(.*?)```", text, re.DOTALL)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [found for code in (*blocks, *inline) for found in CALL.finditer(code)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_calls_is_there(page: Path) -> None:
    for call in calls(page):
        name = call["command"]
        if name not in GROUP and not call["rest"].strip():
            continue  # the name of an image or a service, not a call
        assert name in GROUP, call[0]
        unknown = set(FLAG.findall(call["rest"])) - FLAGS[name]
        assert not unknown, f"{page.name}: glmserve {name} has no {', '.join(unknown)}"


def test_the_pages_call_every_command() -> None:
    assert {call["command"] for page in PAGES for call in calls(page)} >= set(GROUP)


def test_the_page_and_the_help_list_the_same_commands() -> None:
    rows = re.findall(r"^\| `glmserve ([\w-]+)` \|", COMMANDS_PAGE.read_text("utf-8"), re.MULTILINE)
    listed = re.findall(r"^  ([a-z][a-z-]+)  ", CliRunner().invoke(main, ["--help"]).output, re.MULTILINE)
    assert rows == listed == list(GROUP)


def test_the_page_names_every_command_of_the_chat() -> None:
    text = COMMANDS_PAGE.read_text("utf-8")
    assert all(f"`{command.name}" in text for command in COMMANDS)
    assert all(f"`{name}`" in text for name in SAMPLING)


@pytest.mark.parametrize(
    ("command", "report", "more"),
    [
        ("`list`, `pull`", ListedModel, ()),
        ("`convert`", ConversionReport, ("tensor", "wanted", "used", "verified")),
        ("`bench`", BenchReport, ()),
        ("`inspect`", InspectReport, ("right",)),
        ("`doctor`", DoctorReport, ("healthy",)),
    ],
)
def test_the_page_names_every_key_of_the_json(command: str, report: type, more: tuple[str, ...]) -> None:
    schemas = COMMANDS_PAGE.read_text("utf-8").partition("## `--json` output")[2]
    (row,) = re.findall(rf"^\| {re.escape(command)} \| (.*) \|$", schemas, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", row)) == {*(field.name for field in fields(report)), *more}


def test_ctrl_c_has_the_status_of_ctrl_c(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(listing, "find_models", interrupted)
    result = CliRunner().invoke(main, ["list", "--cache-dir", str(tmp_path)])
    assert (result.exit_code, result.output.strip()) == (130, "")


def test_rows_are_whole_lines_where_nobody_watches(tmp_path: Path) -> None:
    folder = tmp_path / ("很长的名字" * 10)
    folder.mkdir()
    (folder / "模型.q4_0.gguf").write_bytes(b"no model")
    result = CliRunner().invoke(main, ["list", "--cache-dir", str(tmp_path)], env={"HF_HOME": str(tmp_path)})
    heading, row = result.output.splitlines()
    assert row.rstrip().endswith("模型.q4_0.gguf")
    assert "\x1b" not in result.output
    wide = row.partition("unreadable")[0]
    assert len(wide.encode("gb18030")) == heading.index("type"), "columns stand below their headings"
    listed = CliRunner().invoke(main, ["list", "--json", "--cache-dir", str(tmp_path)], env={"HF_HOME": str(tmp_path)})
    assert json.loads(listed.output)[0]["size_bytes"] == 8


def test_a_full_disk_is_told_in_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "glmserve.cli.main", "completion", "fish"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (1, "Error: the output: No space left on device\n")
