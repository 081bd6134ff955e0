"""The first steps, one after the other in an empty folder: what a page makes, its next command finds."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, running_server
from tests.docs.examples import here
from tests.docs.markdown import Page

GLMSERVE = ".venv/bin/glmserve "
NEED_THE_NETWORK = ("pull", "list")
"""And the one that lists what was pulled."""
PAGE = Page(ROOT / "docs" / "getting-started.md")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder with the project's ``.venv``; the page's checkpoint is a copy of the embedded one."""
    work = tmp_path / "work"
    work.mkdir()
    (work / ".venv").symlink_to(ROOT / ".venv")
    shutil.copytree(ROOT / "models" / "tiny", tmp_path / "chatglm2-6b", ignore=shutil.ignore_patterns("*.py", "train*"))
    return work


def steps(page: Page, folder: Path) -> list[list[str]]:
    """The commands of glmserve, in their order, without the program."""
    text = "".join(block.text for block in page.blocks if block.language == "console")
    lines = text.replace("/path/to", str(folder.parent)).splitlines()
    words = [shlex.split(line.removeprefix(GLMSERVE), comments=True) for line in lines if line.startswith(GLMSERVE)]
    return [each for each in words if each[0] not in NEED_THE_NETWORK]


def run(command: list[str], folder: Path) -> str:
    variables = {**os.environ, "GLMSERVE_CACHE_DIR": str(folder / "cache")}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, f"{shlex.join(command)}:\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_commands_of_getting_started_lead_to_an_answer(folder: Path) -> None:
    *before, (last, *arguments) = steps(PAGE, folder)
    assert [each[0] for each in before] == ["convert", "doctor"]
    for words in before:
        run([GLMSERVE.strip(), *words], folder)
    assert last == "serve"
    where = arguments.index("--port") + 1
    arguments[where] = "0"
    (program,) = [block.text for block in PAGE.blocks if block.language == "python"]
    with running_server(*arguments, log=folder / "log", folder=folder) as (url, _):
        assert run([sys.executable, "-c", here(program, url)], folder).strip()
    (settings,) = [block.text for block in PAGE.blocks if block.language == "toml"]
    (folder / "glmserve.toml").write_text(settings)
    (folder / "keys.txt").write_text("ann:sk-ann-9f2c71\n")
    with running_server(log=folder / "log", folder=folder) as (url, _):
        code = here(program, url).replace("chatglm2-6b", "gpt-3.5-turbo").replace('"none"', '"sk-ann-9f2c71"')
        assert run([sys.executable, "-c", code], folder).strip()
