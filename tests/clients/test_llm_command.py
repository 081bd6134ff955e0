"""The command ``llm``."""

import json
from pathlib import Path

import pytest

from tests.clients.conftest import Deployment
from tests.clients.programs import Told, run_python
from tests.support.api import make_app, serve
from tests.support.scripted_engine import ScriptedEngine

SHORT = ("-o", "temperature", "0", "-o", "max_tokens", "40")
COMMANDS = {
    "whole": ("-m", "glm", "--no-stream", "--usage", *SHORT, "你好"),
    "stream": ("-m", "glm", *SHORT, "你好"),
    "continued": ("--continue", "-m", "glm", "-s", "简短回答", *SHORT, "再见"),
    "text": ("-m", "glm-text", *SHORT, "[Round 1]\n\n问：你好\n\n答："),
    "schema": ("-m", "glm", "--schema", "stars int, good bool", "-o", "max_tokens", "200", "很好吃，下次还来。"),
    "tool": ("-m", "glm", "--functions", "def now() -> str: return '18:55'", *SHORT, "现在几点？"),
}


@pytest.fixture(scope="module")
def told(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """What the commands printed."""
    folder = str(tmp_path_factory.mktemp("llm"))
    return run_python("openai3", "llm_command.py", deployment.url, deployment.key, folder, json.dumps(COMMANDS))


def test_a_prompt_is_answered_whole_and_streamed_and_as_a_text(told: Told) -> None:
    usage, answer = sorted(told["whole"].splitlines())
    assert "glmserve" in answer
    assert told["stream"] == told["text"] == answer
    assert usage.startswith("Token usage: 18 input, 19 output")


def test_a_conversation_goes_on(told: Told) -> None:
    assert "再见" in told["continued"]


def test_a_schema_is_kept_to(told: Told) -> None:
    answer = json.loads(told["schema"])
    assert set(answer) == {"stars", "good"}
    assert isinstance(answer["good"], bool)


def test_tools_may_be_there_without_a_description(told: Told) -> None:
    assert told["tool"]


def test_a_tool_is_called_and_its_result_answered(tmp_path: Path) -> None:
    """On a scripted engine, as the embedded model calls no tool that it need not call."""
    engine = ScriptedEngine()
    engine.reply = lambda ask: "现在 18:55" if "18:55" in ask.prompt else "调用工具：now\n参数：{}"
    with serve(make_app(engine)) as url:
        told = run_python(
            "openai3", "llm_command.py", url, "none", str(tmp_path), json.dumps({"tool": COMMANDS["tool"]})
        )
    assert told["tool"] == "现在 18:55"
