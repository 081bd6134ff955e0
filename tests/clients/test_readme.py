"""Every example of the README and of the page on further APIs, run against a real server."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = (README, ROOT / "docs" / "api.md")
ADDRESS = "http://127.0.0.1:8000"
_BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def examples() -> list[tuple[str, str]]:
    return [example for page in PAGES for example in _BLOCK.findall(page.read_text("utf-8"))]


def run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("index", range(len(examples())))
def test_an_example_of_the_readme_works(index: int, server_url: str) -> None:
    language, code = examples()[index]
    assert ADDRESS in code
    code = code.replace(ADDRESS, server_url)
    if language == "bash":
        if shutil.which("curl") is None:
            pytest.skip("there is no curl on this machine")
        output = run(["bash", "-c", code])
        assert any(word in output for word in ('"content"', '"response"', '"input_tokens"'))
    else:
        assert run([sys.executable, "-c", code]).strip()


def test_there_is_an_example_for_each_kind_of_caller() -> None:
    text = "".join(code for _, code in examples())
    assert all(word in text for word in ("OpenAI(", "ChatOpenAI(", "/v1/chat/completions", "/chatglm"))


@pytest.mark.parametrize("link", re.findall(r"\]\(((?!http)[^)]+)\)", README.read_text("utf-8")))
def test_a_link_of_the_readme_leads_somewhere(link: str) -> None:
    assert (README.parent / link).exists()
