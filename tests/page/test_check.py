"""The check of a task in the page: accuracy by field, confusion, wrong answers, and what was there before."""

import time
from collections.abc import Callable

from playwright.sync_api import expect

from glmserve.bootstrap.app import ApiOptions
from glmserve.chat.tasks.judge import AnswerField, Example, FieldKind
from glmserve.chat.tasks.task import Task
from glmserve.engine.interface import EngineState
from tests.page.chat import Chat
from tests.page.conftest import Serve, Visit
from tests.page.test_use import PHONE, violations
from tests.support.scripted_engine import ScriptedEngine, Submission

FIELDS = (AnswerField("mood", FieldKind.LABEL), AnswerField("why", FieldKind.TEXT))
EXAMPLES = tuple(
    Example({"text": text}, {"mood": (mood,), "why": why})
    for text, mood, why in (("nice", "good", ()), ("fine", "good", ("fine",)), ("nasty", "bad", ("smell",)))
)
TASKS = {"mood": Task("mood", "{{text}}", fields=FIELDS, examples=EXAMPLES), "free": Task("free", "{{text}}")}
OPTIONS = ApiOptions(tasks=TASKS)
ANSWERS = {"nice": "mood: good\nwhy: it is", "fine": "mood: bad\nwhy: so fine", "nasty": "mood: bad\nwhy: it is"}


def answering(answers: dict[str, str]) -> ScriptedEngine:
    def reply(submission: Submission) -> str:
        return next(answer for text, answer in answers.items() if f"问：{text}" in submission.prompt)

    return ScriptedEngine(reply=reply, per_step=16, starts=1, state=EngineState.READY)


def check(chat: Chat, task: str) -> None:
    chat.page.locator("#model").select_option(f"chatglm2-tiny:{task}")
    chat.button("Check").click()


def test_a_check_tells_the_accuracy_and_compares_it_with_the_last_one(visit: Visit, serve_with: Serve) -> None:
    engine = answering(ANSWERS)
    chat = visit(serve_with(engine, OPTIONS), **PHONE)
    check(chat, "mood")
    report = chat.page.get_by_role("dialog")
    expect(report.get_by_role("status")).to_have_text(
        "66.7 % of the fields are right; in 1 of 3 answers all fields are."
    )
    rows = report.locator("table").first.locator("tbody tr")
    expect(rows.first).to_contain_text("moodlabel2 of 3 66.7 %")
    expect(report.locator(".confusion tbody tr")).to_have_text(["good11", "bad·1"])
    expect(report.locator(".miss")).to_have_text(["1"])
    expect(report.locator(".mistakes li")).to_have_text(["finemoodbad, not good", "nastywhyit is, without smell"])
    box = report.locator(".scroll").first.bounding_box()
    assert box is not None
    assert box["height"] > 50, "no table is pressed flat"
    assert violations(chat.page) == []
    engine.reply = answering({**ANSWERS, "fine": "mood: good\nwhy: fine"}).reply
    chat.button("Check again").click()
    expect(report.get_by_role("status")).to_have_text(
        "83.3 % of the fields are right; in 2 of 3 answers all fields are. Last time: 66.7 %."
    )
    expect(rows.first.locator("td").last).to_have_text("66.7 %")
    chat.button("Close").click()
    expect(report).to_be_hidden()


def test_what_cannot_be_checked_is_told(visit: Visit, serve_with: Serve) -> None:
    engine = answering({})
    engine.reject = RuntimeError("broken")
    chat = visit(serve_with(engine, OPTIONS))
    check(chat, "free")
    expect(chat.page.get_by_role("dialog")).to_contain_text("This task has no examples.")
    chat.page.keyboard.press("Escape")
    check(chat, "mood")
    expect(chat.page.get_by_role("dialog")).to_contain_text("The server failed to answer.")


def test_a_closed_dialog_ends_the_check(visit: Visit, serve_with: Serve) -> None:
    engine = answering(ANSWERS)
    engine.endless, engine.step_seconds = True, 0.05
    chat = visit(serve_with(engine, OPTIONS))
    check(chat, "mood")
    expect(chat.page.get_by_role("dialog")).to_contain_text("0 of 3 examples are answered")
    soon(lambda: engine.running == 3, chat)
    chat.page.keyboard.press("Escape")
    expect(chat.page.get_by_role("dialog")).to_be_hidden()
    soon(lambda: engine.running == 0, chat)


def soon(condition: Callable[[], bool], chat: Chat) -> None:
    """Wait for what happens in the server."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        chat.page.wait_for_timeout(20)
