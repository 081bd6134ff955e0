"""Several conversations, kept in the browser."""

import json
from pathlib import Path

from playwright.sync_api import expect

from tests.page.chat import Chat
from tests.page.conftest import Visit
from tests.support.scripted_engine import ScriptedEngine


def two_conversations(visit: Visit, url: str) -> Chat:
    chat = visit(url)
    chat.ask("first question")
    chat.button("New conversation").first.click()
    chat.ask("second question")
    return chat


def test_the_latest_stands_first_and_each_keeps_its_messages(visit: Visit, url: str) -> None:
    chat = two_conversations(visit, url)
    expect(chat.titles).to_have_text(["second question", "first question"])
    chat.titles.last.click()
    expect(chat.questions).to_have_text(["first question"])
    chat.page.reload()
    expect(chat.questions).to_have_text(["first question"])


def test_one_is_renamed(visit: Visit, url: str) -> None:
    chat = two_conversations(visit, url)
    chat.act("first question", "Rename")
    chat.page.get_by_label("Name", exact=True).fill("生日")
    chat.button("Save").click()
    expect(chat.titles).to_have_text(["second question", "生日"])
    expect(chat.field).to_be_focused()
    chat.page.reload()
    expect(chat.titles).to_have_text(["second question", "生日"])


def test_one_is_deleted_once_that_is_confirmed(visit: Visit, url: str) -> None:
    chat = two_conversations(visit, url)
    chat.act("second question", "Delete")
    chat.button("Cancel").click()
    expect(chat.titles).to_have_count(2)
    chat.act("second question", "Delete")
    chat.button("Delete", chat.page.get_by_role("dialog")).click()
    expect(chat.titles).to_have_text(["first question"])
    expect(chat.questions).to_have_count(0)


def test_one_is_saved_as_a_file(visit: Visit, url: str) -> None:
    chat = visit(url)
    chat.ask("what/is that?")
    with chat.page.expect_download() as download:
        chat.act("what/is that?", "Save as Markdown")
    assert download.value.suggested_filename == "what is that.md"
    assert Path(download.value.path()).read_text("utf-8") == (
        "# what/is that?\n\n## You\n\nwhat/is that?\n\n## Answer\n\nwhat/is that?\n"
    )
    with chat.page.expect_download() as download:
        chat.act("what/is that?", "Save as JSON")
    saved = json.loads(Path(download.value.path()).read_text("utf-8"))
    assert [message["role"] for message in saved["messages"]] == ["user", "assistant"]


def test_an_answer_goes_on_while_another_conversation_is_shown(visit: Visit, url: str, engine: ScriptedEngine) -> None:
    engine.step_seconds = 0.15
    chat = visit(url)
    chat.send("a rather long question for the first conversation")
    expect(chat.answer).to_contain_text("a rather")
    chat.button("New conversation").first.click()
    expect(chat.answers).to_have_count(0)
    chat.titles.last.click()
    expect(chat.answer).to_have_text("a rather long question for the first conversation")


def test_another_window_sees_what_this_one_does(visit: Visit, url: str) -> None:
    chat = visit(url)
    other = Chat(chat.page.context.new_page()).open(url)
    chat.ask("seen elsewhere")
    expect(other.titles).to_have_text(["seen elsewhere"])
