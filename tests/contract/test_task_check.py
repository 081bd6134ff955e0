"""The examples of tasks: ``/v1/tasks/…`` and ``glmserve task --check``, against a scripted engine."""

import json
from collections.abc import Iterator

import httpx
import pytest
from click.testing import CliRunner, Result

from glmserve.bootstrap.app import ApiOptions
from glmserve.chat.tasks.judge import AnswerField, Example, FieldKind
from glmserve.chat.tasks.task import Task
from glmserve.cli.main import main
from tests.support.api import MODEL, make_app, serve
from tests.support.scripted_engine import ScriptedEngine, Submission

TASKS = {
    "mood": Task(
        "mood",
        "{{text}}",
        fields=(AnswerField("mood", FieldKind.LABEL), AnswerField("why", FieldKind.TEXT)),
        examples=tuple(
            Example({"text": text}, {"mood": (mood,), "why": why})
            for text, mood, why in (("nice", "good", ()), ("fine", "good", ("fine",)), ("nasty", "bad", ("smell",)))
        ),
    ),
    "free": Task("free", "{{text}}"),
}
ANSWERS = {"nice": "mood: good\nwhy: it is", "fine": "mood: bad\nwhy: so fine", "nasty": "mood: bad\nwhy: it is"}


def reply(submission: Submission) -> str:
    return next(answer for text, answer in ANSWERS.items() if f"问：{text}" in submission.prompt)


@pytest.fixture
def url() -> Iterator[str]:
    with serve(make_app(ScriptedEngine(reply=reply), ApiOptions(tasks=TASKS))) as address:
        yield address


def check(url: str, *arguments: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, ["task", "mood", "--check", "--url", url, *arguments], env=env)


def test_the_examples_are_listed_with_the_fields_that_are_judged(url: str) -> None:
    listed = httpx.get(f"{url}/v1/tasks/mood/examples").json()
    assert listed["fields"] == [{"name": "mood", "kind": "label"}, {"name": "why", "kind": "text"}]
    assert listed["data"][2] == {"variables": {"text": "nasty"}, "right": {"mood": ["bad"], "why": ["smell"]}}


def test_answers_are_judged_in_the_order_of_the_examples(url: str) -> None:
    reply = httpx.post(f"{url}/v1/tasks/mood/judge", json={"answers": [*ANSWERS.values()]})
    judged = reply.json()
    assert (judged["accuracy"], judged["all_right"]) == (4 / 6, 1 / 3)
    confusion = {"right": ["good", "bad"], "answered": ["good", "bad"], "counts": [[1, 1], [0, 1]]}
    assert judged["fields"][0] == {"name": "mood", "kind": "label", "right": 2, "of": 3, "confusion": confusion}
    wrong = judged["answers"][2]["fields"][1]
    assert wrong == {"name": "why", "right": ["smell"], "answered": ["it is"], "is_right": False}


@pytest.mark.parametrize(
    ("task", "body", "status", "told"),
    [
        ("mood", {"answers": ["a"]}, 400, "must have an answer to each of the 3 examples, not 1"),
        ("mood", {"answers": "a"}, 400, "answers"),
        ("none", {"answers": []}, 404, "there is no stored prompt 'none'; stored here: mood, free"),
    ],
)
def test_answers_that_cannot_be_judged_are_refused(url: str, task: str, body: object, status: int, told: str) -> None:
    reply = httpx.post(f"{url}/v1/tasks/{task}/judge", json=body)
    assert reply.status_code == status
    assert told in reply.json()["error"]["message"]


def test_the_command_tells_accuracy_by_field_confusion_and_wrong_answers(url: str) -> None:
    result = check(url)
    assert result.exit_code == 0
    lines = [line.split() for line in result.output.splitlines()]
    assert ["mood", "with", MODEL + ",", "3", "examples"] in lines
    assert ["mood", "label", "2", "3", "66.7", "%"] in lines
    assert [one for one in lines if one[:1] in (["good"], ["bad"])] == [
        ["good", "bad"],
        ["good", "1", "1"],
        ["bad", "·", "1"],
    ]
    assert "  fine\n    mood: bad, not good\n  nasty\n    why: it is, without smell\n" in result.output
    assert "accuracy 66.7 %; right in all fields: 1 of 3 (33.3 %)\n" in result.output


def test_the_status_tells_whether_the_accuracy_suffices(url: str) -> None:
    assert check(url, "--min-accuracy", "0.66").exit_code == 0
    low = check(url, "--min-accuracy", "0.67", "--json")
    assert (low.exit_code, low.stderr) == (1, "Error: the accuracy 66.7 % is below --min-accuracy 67.0 %\n")
    told = json.loads(low.stdout)
    assert (told["model"], told["task"], len(told["answers"])) == (MODEL, "mood", 3)


def test_the_report_is_in_the_language_of_the_user(url: str) -> None:
    output = check(url, env={"LC_ALL": "zh_CN.UTF-8"}).output
    assert "字段" in output
    assert "准确率 66.7 %；所有字段都对的：3 个里 1 个（33.3 %）" in output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("free", "--check"), "the task free has no examples; add [[examples]] to its file"),
        (("mood", "x", "--check"), "--check runs the examples of the task; leave out TEXT and --var"),
        (("mood", "--check", "--var", "text=x"), "--check runs the examples of the task; leave out TEXT and --var"),
        (("mood", "--min-accuracy", "90"), "Invalid value for '--min-accuracy': 90.0 is not in the range 0<=x<=1."),
    ],
)
def test_a_check_that_cannot_be_made_is_reported_with_what_to_do(
    url: str, arguments: tuple[str, ...], told: str
) -> None:
    result = CliRunner().invoke(main, ["task", *arguments, "--url", url])
    assert (result.exit_code, told in result.stderr) == (2, True)
