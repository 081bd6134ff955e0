"""Talking to a model by the chat page: on the embedded model, and on an engine that says the question again."""

import re
import time
from collections.abc import Callable
from contextlib import ExitStack

from playwright.sync_api import expect

from glmserve.bootstrap.app import create_app
from glmserve.engine.messages import PromptProgress
from glmserve.model_pool.registry import ModelRegistry
from tests.page.conftest import Visit
from tests.support.api import serve, served_model
from tests.support.scripted_engine import ScriptedEngine, never


def eventually(holds: Callable[[], bool]) -> bool:
    """Whether something of the server comes true within seconds."""
    deadline = time.monotonic() + 20
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)
    return holds()


def test_the_embedded_model_answers_and_its_figures_are_told(visit: Visit, server_url: str) -> None:
    chat = visit(server_url)
    assert "glmserve" in chat.ask("你好")
    assert "glmserve" in chat.ask("你是谁？")
    expect(chat.figures).to_have_text(
        re.compile(r"\d+ tokens · [\d.]+ tokens/s · first token after [\d.]+ s · [1-9]\d* of \d+ prompt tokens cached")
    )


def test_a_task_is_chosen_from_the_list_and_tried_with_its_example(visit: Visit, server_url: str) -> None:
    chat = visit(server_url)
    chat.page.locator("#model").select_option("chatglm2-tiny:intent")
    chat.button("Insert the example").click()
    expect(chat.field).not_to_have_value("")
    chat.field.press("Enter")
    chat.wait()
    expect(chat.answer.locator("th").first).to_have_text("话题")
    expect(chat.answer.locator("tr")).to_have_count(8)
    expect(chat.page.locator(".message.assistant .who")).to_have_text("chatglm2-tiny:intent")


def test_a_task_of_the_gallery_is_filled_field_by_field(visit: Visit, server_url: str) -> None:
    chat = visit(server_url, locale="zh-CN")
    chat.page.locator(".card", has_text="风格写作").click()
    form = chat.page.get_by_role("dialog")
    expect(form.locator("textarea").last).to_be_focused()
    chat.button("填入示例", form).click()
    for field in form.locator("textarea").all():
        expect(field).not_to_have_value("")
    chat.button("运行", form).click()
    chat.wait()
    expect(chat.page.locator("#model")).to_have_value("chatglm2-tiny:style")
    expect(chat.questions.locator("tr")).to_have_count(2)
    expect(chat.questions.locator("th").last).to_have_text("主题")
    expect(chat.answer).not_to_be_empty()


def test_who_waits_sees_the_place_in_the_queue_and_how_much_of_the_prompt_is_read(
    visit: Visit, url: str, engine: ScriptedEngine
) -> None:
    engine.progress = (PromptProgress(4000, position=3, expected_wait=20), PromptProgress(4000, 0, 1000, 10.0))
    engine.holds = lambda number: number > 0
    chat = visit(url)
    chat.send("question")
    waiting = chat.page.locator(".waiting")
    expect(waiting).to_have_text("Number 3 in the queue · starts in about 20 s")
    engine.holds = lambda number: number > 1
    expect(waiting).to_have_text("Reading the prompt: 1000 of 4000 tokens · about 30 s left")
    expect(chat.page.get_by_role("progressbar")).to_have_attribute("value", "1000")
    engine.holds = never
    expect(chat.answer).to_have_text("question")
    expect(waiting).to_have_count(0)


def test_an_answer_is_shown_while_it_comes_and_can_be_stopped(visit: Visit, url: str, engine: ScriptedEngine) -> None:
    engine.endless, engine.step_seconds, engine.per_step = True, 0.02, 3
    engine.holds = lambda number: number > 300
    chat = visit(url)
    chat.send("一二三四")
    expect(chat.answer).to_contain_text("一二三四")
    expect(chat.figures).to_contain_text("tokens")
    chat.button("Stop").click()
    expect(chat.page.locator(".end")).to_have_text("Stopped.")
    kept = chat.answer.inner_text()
    assert kept.startswith("一二三四")
    assert eventually(lambda: engine.submissions[0].closed), "the engine goes on for nobody"
    chat.page.reload()
    expect(chat.answer).to_have_text(kept)


def test_an_answer_that_a_reload_cut_off_is_gone_on_with(visit: Visit, url: str, engine: ScriptedEngine) -> None:
    engine.holds, engine.per_step = (lambda number: number > 3), 2
    chat = visit(url)
    chat.send("abcdefghijklmnopqrstuvwxyz")
    expect(chat.answer).to_contain_text("abc")
    chat.page.reload()
    engine.holds, engine.reply = never, lambda _: "and the rest"
    chat.button("Continue").click()
    expect(chat.answer).to_have_text(re.compile("^abc.* and the rest"))


def test_a_reload_keeps_the_conversation_and_its_figures(visit: Visit, url: str) -> None:
    chat = visit(url)
    chat.ask("第一个问题")
    figures = chat.figures.inner_text()
    chat.page.reload()
    expect(chat.questions).to_have_text(["第一个问题"])
    expect(chat.answers).to_have_text(["第一个问题"])
    expect(chat.figures).to_have_text(figures)


def test_the_whole_conversation_is_sent_with_its_system_prompt(visit: Visit, url: str, engine: ScriptedEngine) -> None:
    engine.reply = lambda _: "好"
    chat = visit(url)
    chat.button("Options").click()
    chat.page.get_by_label("System prompt of this conversation").fill("简短。")
    chat.ask("甲")
    chat.ask("乙")
    assert engine.submissions[-1].prompt == "[Round 1]\n\n问：简短。\n\n甲\n\n答：好\n\n[Round 2]\n\n问：乙\n\n答："


def test_an_answer_is_asked_for_again_and_the_first_one_is_kept(visit: Visit, url: str, engine: ScriptedEngine) -> None:
    chat = visit(url)
    chat.ask("甲")
    engine.reply = lambda _: "another"
    chat.button("Regenerate").click()
    expect(chat.answers).to_have_text(["another"])
    assert engine.submissions[0].prompt == engine.submissions[1].prompt
    expect(chat.page.locator(".place")).to_have_text("2/2")
    chat.button("Previous version").click()
    expect(chat.answers).to_have_text(["甲"])
    chat.page.reload()
    expect(chat.page.locator(".place")).to_have_text("1/2")


def test_an_edited_message_keeps_what_followed_it_as_another_version(
    visit: Visit, url: str, engine: ScriptedEngine
) -> None:
    chat = visit(url)
    chat.ask("one")
    chat.ask("two")
    chat.button("Edit").first.click()
    chat.page.get_by_label("Edit your message").fill("three")
    chat.button("Send again").click()
    expect(chat.answers).to_have_text(["three"])
    expect(chat.questions).to_have_text(["three"])
    assert "one" not in engine.submissions[-1].prompt
    chat.button("Previous version").click()
    expect(chat.questions).to_have_text(["one", "two"])
    expect(chat.button("Next version")).to_be_focused()


def test_an_edit_can_be_called_off(visit: Visit, url: str) -> None:
    chat = visit(url)
    chat.ask("one")
    chat.button("Edit").click()
    chat.page.get_by_label("Edit your message").press("Escape")
    expect(chat.questions).to_have_text(["one"])
    expect(chat.button("Edit")).to_be_focused()


def test_an_answer_that_reached_its_length_is_gone_on_with(visit: Visit, url: str, engine: ScriptedEngine) -> None:
    chat = visit(url)
    chat.button("Options").click()
    chat.page.get_by_label("Maximum length").fill("4")
    chat.send("abcdefgh")
    expect(chat.page.locator(".end")).to_have_text("The answer reached the maximum length.")
    expect(chat.answer).to_have_text("abc")
    engine.reply = lambda _: "and more"
    chat.button("Back to the default").click()
    chat.button("Continue").click()
    expect(chat.answer).to_have_text("abc and more")
    assert engine.submissions[-1].prompt.endswith("问：abcdefgh\n\n答：abc")


def test_another_model_is_chosen_and_the_choice_stays(visit: Visit, servers: ExitStack) -> None:
    first, second = ScriptedEngine(reply=lambda _: "I am one"), ScriptedEngine(reply=lambda _: "I am two")
    models = [served_model(first, "one", "a"), served_model(second, "two", "b")]
    chat = visit(servers.enter_context(serve(create_app(ModelRegistry(models)))))
    assert chat.ask("question") == "I am one"
    chat.page.get_by_label("Model", exact=True).select_option("two")
    assert chat.ask("again") == "I am two"
    chat.page.reload()
    expect(chat.page.get_by_label("Model", exact=True)).to_have_value("two")
    assert chat.ask("and again") == "I am two"
    expect(chat.page.locator(".message.assistant .who")).to_have_text(["one", "two", "two"])
    assert "I am one" in second.submissions[0].prompt


def test_what_was_not_chosen_is_left_to_the_model(visit: Visit, url: str, engine: ScriptedEngine) -> None:
    chat = visit(url)
    chat.ask("甲")
    model = engine.submissions[0].params
    assert (model.temperature, model.top_p, model.max_tokens) == (0.8, 0.8, 2048)
    chat.button("Options").click()
    chat.page.get_by_label("Temperature").fill("0.3")
    chat.page.get_by_label("Top P").fill("0.5")
    chat.page.reload()
    chat.ask("乙")
    chosen = engine.submissions[1].params
    assert (chosen.temperature, chosen.top_p, chosen.max_tokens) == (0.3, 0.5, 2048)
