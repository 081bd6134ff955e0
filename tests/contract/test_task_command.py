"""``glmserve task`` against the application on a scripted engine."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from glmserve.bootstrap.app import ApiOptions
from glmserve.chat.tasks.loader import load_tasks
from glmserve.chat.tasks.task import Task, Variable
from glmserve.cli.main import main
from glmserve.engine.errors import EngineDied, QueueFull
from tests.support.api import MODEL, make_app, serve
from tests.support.scripted_engine import ScriptedEngine

TASKS = {
    "ask": Task(
        "ask",
        "{{tone}}：{{text}}",
        notes={"tone": Variable("tone", default="好"), "text": Variable("text", example="a")},
    ),
    "two": Task("two", "{{a}}和{{b}}"),
}


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture
def url(engine: ScriptedEngine) -> Iterator[str]:
    with serve(make_app(engine, ApiOptions(tasks=TASKS))) as address:
        yield address


def call(*arguments: str, text: str | bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["task", *arguments], input=text)


def asked(engine: ScriptedEngine) -> str:
    return engine.submissions[-1].prompt.removeprefix("[Round 1]\n\n问：").removesuffix("\n\n答：")


def test_a_text_is_the_argument_or_comes_by_standard_input(url: str, engine: ScriptedEngine) -> None:
    assert call("ask", "你好{{tone}}", "--url", url).output == "你问的是：好：你好{{tone}}\n"
    assert call("ask", "-", "--url", f"{url}/v1", text="两\n行\n").exit_code == 0
    assert asked(engine) == "好：两\n行"


def test_slots_are_filled_by_name(url: str, engine: ScriptedEngine) -> None:
    assert call("two", "--var", "a=1=1", "--var", "b=", "--url", url).exit_code == 0
    assert asked(engine) == "1=1和"
    assert call("ask", "x", "--var", "tone=坏", "--url", url).exit_code == 0
    assert asked(engine) == "坏：x"


def test_json_has_the_answer_as_one_value(url: str) -> None:
    told = json.loads(call("ask", "x", "--json", "--url", url).output)
    assert told == {"task": "ask", "model": MODEL, "text": "你问的是：好：x"}


def test_the_list_is_that_of_the_package_or_of_a_server(url: str, tmp_path: Path) -> None:
    assert [line.split()[0] for line in call("--list", "--url", url).output.splitlines()] == ["task", "ask", "two"]
    (tmp_path / "mine.toml").write_text('template = "{{text}}"\ndescription = "My own"')
    listed = json.loads(call("--list", "--json", "--prompts", str(tmp_path)).output)
    assert [card["id"] for card in listed] == [*load_tasks(None), "mine"]
    assert listed[-1]["description"]["en"] == "My own"
    assert "[examples] text" in call("--list").output


def test_standard_input_that_is_no_text_is_refused(url: str) -> None:
    assert "not valid UTF-8 (invalid start byte at byte 1)" in call("ask", "-", "--url", url, text=b"a\xff").stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "give a TASK; glmserve task --list shows them"),
        (("other", "x"), "there is no task 'other'; there are: ask, two"),
        (("ask",), "ask needs text, as in: glmserve task ask a"),
        (("two", "x"), "two takes no TEXT; it needs a, b: give each with --var NAME=VALUE"),
        (("ask", "--var", "text"), "--var text: must be NAME=VALUE"),
        (("ask", "x", "--threads", "1"), "--threads needs --model; a running server has its own settings"),
    ],
)
def test_what_is_wrong_is_reported_in_one_line_with_what_to_do(url: str, arguments: tuple[str, ...], told: str) -> None:
    result = call(*arguments, "--url", url)
    assert (result.exit_code, result.stderr) == (2, f"Error: {told}\n")


def test_what_the_server_refuses_or_breaks_off_is_reported_in_its_words(url: str, engine: ScriptedEngine) -> None:
    assert "has no variable 'c'" in call("two", "--var=a=1", "--var=b=2", "--var=c=3", "--url", url).stderr
    engine.fail = EngineDied("the engine process ended")
    broken = call("ask", "x", "--url", url)
    assert (broken.exit_code, "Error: the engine process ended" in broken.stderr) == (1, True)
    engine.reject = QueueFull(64)
    assert "the queue is full, with 64 requests waiting" in call("ask", "x", "--url", url).stderr
    assert "start one with glmserve serve, or give --model" in call("ask", "x", "--url", "http://127.0.0.1:9").stderr
