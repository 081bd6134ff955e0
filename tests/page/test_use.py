"""The page in the hands of different people: keyboard, screen reader, phone, dark rooms, Chinese."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.page.chat import Chat
from tests.page.conftest import Visit, Window
from tests.support.scripted_engine import ScriptedEngine, never

AXE = Path(__file__).with_name("node_modules") / "axe-core" / "axe.min.js"
PHONE: Window = {"viewport": {"width": 390, "height": 780}, "has_touch": True, "is_mobile": True}
RICH = (
    "# 标题\n\n正文 **粗体** `code` 和 [链接](https://example.com)。\n\n> 引用\n\n- 一\n- 二\n\n"
    "| 名称 | 值 |\n|---|---|\n| 甲 | 1 |\n\n```python\nprint('你好')\n```\n"
)


def violations(page: Page) -> list[str]:
    """What axe-core finds wrong with the page as it is now."""
    page.evaluate(AXE.read_text("utf-8"))
    found = page.evaluate("axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice'] })")
    return [f"{one['id']}: {node['html']}" for one in found["violations"] for node in one["nodes"]]


def compose(chat: Chat, text: str) -> None:
    """Type as an input method for Chinese does, up to before the Enter that takes the characters."""
    devtools = chat.page.context.new_cdp_session(chat.page)
    devtools.send("Input.imeSetComposition", {"text": text, "selectionStart": len(text), "selectionEnd": len(text)})


@pytest.mark.parametrize(
    "window",
    [{"color_scheme": "light"}, {**PHONE, "color_scheme": "dark"}],
    ids=["wide and light", "phone and dark"],
)
def test_axe_finds_nothing(visit: Visit, url: str, window: Window) -> None:
    chat = visit(url, **window)
    assert violations(chat.page) == []
    chat.ask(RICH)
    chat.button("Options").click()
    assert violations(chat.page) == []


def test_axe_finds_nothing_in_dialogs_menus_and_failures(visit: Visit, url: str, engine: ScriptedEngine) -> None:
    engine.reject = RuntimeError("broken")
    chat = visit(url)
    chat.send("question")
    expect(chat.failure).to_be_visible()
    chat.button("Edit").click()
    assert violations(chat.page) == []
    chat.page.get_by_label("Edit your message").press("Escape")
    chat.page.locator("#conversations .more").click()
    assert violations(chat.page) == []
    chat.page.get_by_role("menuitem", name="Rename").click()
    assert violations(chat.page) == []


def test_everything_is_done_by_keyboard(visit: Visit, url: str) -> None:
    chat = visit(url)
    keys = chat.page.keyboard
    expect(chat.field).to_be_focused()
    keys.type("one")
    keys.press("Shift+Enter")
    keys.type("two")
    keys.press("Enter")
    chat.wait()
    expect(chat.questions).to_have_text("one\ntwo", use_inner_text=True)
    expect(chat.field).to_be_focused()
    seen = []
    for _ in range(30):
        keys.press("Tab")
        name = chat.page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.id")
        if name:
            seen.append(name)
    assert set(seen) >= {"Messages", "Regenerate", "Edit", "Copy", "Options", "Model", "language", "theme"}
    chat.button("Regenerate").focus()
    keys.press("Enter")
    chat.wait()
    expect(chat.field).to_be_focused()
    chat.button("Options").focus()
    keys.press("Enter")
    expect(chat.page.locator("#options")).to_be_visible()
    chat.page.get_by_label("Temperature").focus()
    keys.press("ArrowLeft")
    keys.press("Escape")
    expect(chat.page.locator("#options")).to_be_hidden()
    expect(chat.button("Options")).to_be_focused()


def test_escape_stops_an_answer(visit: Visit, url: str, engine: ScriptedEngine) -> None:
    engine.endless, engine.holds = True, lambda number: number > 2
    chat = visit(url)
    chat.send("question")
    expect(chat.answer).to_contain_text("question")
    chat.page.keyboard.press("Escape")
    expect(chat.page.locator(".end")).to_have_text("Stopped.")


def test_the_enter_that_takes_characters_of_an_input_method_does_not_send(visit: Visit, url: str) -> None:
    """A page that sent there would send half a sentence of everybody who writes Chinese."""
    chat = visit(url)
    compose(chat, "nihao")
    chat.page.evaluate(
        """document.activeElement.dispatchEvent(
            new KeyboardEvent("keydown", { key: "Enter", isComposing: true, bubbles: true, cancelable: true }))"""
    )
    expect(chat.questions).to_have_count(0)
    chat.page.keyboard.insert_text("你好")
    chat.page.keyboard.press("Enter")
    expect(chat.questions).to_have_text(["你好"])


def test_a_screen_reader_is_told_the_answer_once_and_whole(visit: Visit, url: str, engine: ScriptedEngine) -> None:
    engine.step_seconds, engine.per_step = 0.02, 3
    chat = visit(url)
    chat.page.evaluate(
        """() => {
            window.told = [];
            const region = document.querySelector("[role=status]");
            new MutationObserver(() => told.push(region.textContent)).observe(region, { childList: true });
        }"""
    )
    chat.ask("a question of some length")
    chat.page.wait_for_function("told.length > 1")
    assert chat.page.evaluate("told") == ["The answer is coming", "Answer: a question of some length"]
    expect(chat.page.get_by_role("log")).to_have_attribute("aria-live", "off")


def test_a_chinese_browser_gets_chinese_and_a_choice_stays(visit: Visit, url: str) -> None:
    chat = visit(url, locale="zh-CN")
    expect(chat.page.locator("html")).to_have_attribute("lang", "zh-CN")
    expect(chat.button("新对话").first).to_be_visible()
    chat.page.get_by_label("语言").select_option("en")
    expect(chat.button("New conversation").first).to_be_visible()
    chat.page.reload()
    expect(chat.button("New conversation").first).to_be_visible()
    left = chat.page.evaluate("document.body.innerText.match(/[a-z]+[A-Z][a-zA-Z]+/g)")
    assert left is None, "a key stands where words should"


def test_dark_follows_the_browser_until_something_is_chosen(visit: Visit, url: str) -> None:
    chat = visit(url, color_scheme="dark")

    def expect_ground(holds: str) -> None:
        parts = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g)"
        chat.page.wait_for_function(f"{parts}.every(part => part {holds})")

    expect_ground("< 60")
    chat.page.emulate_media(color_scheme="light")
    expect(chat.page.locator("html")).to_have_attribute("data-theme", "light")
    expect_ground("> 200")
    chat.page.get_by_label("Theme").select_option("dark")
    expect_ground("< 60")
    chat.page.reload()
    expect_ground("< 60")


def test_on_a_phone_enter_starts_a_new_line(visit: Visit, url: str) -> None:
    """Its keyboard has no other key for that."""
    chat = visit(url, **PHONE)
    chat.field.tap()
    chat.page.keyboard.type("one")
    chat.page.keyboard.press("Enter")
    chat.page.keyboard.type("two")
    chat.button("Send").tap()
    expect(chat.questions).to_have_text("one\ntwo", use_inner_text=True)


def test_on_a_phone_the_list_opens_over_the_messages(visit: Visit, url: str) -> None:
    chat = visit(url, **PHONE)
    chat.ask("question")
    expect(chat.titles).to_be_hidden()
    chat.button("Conversations").tap()
    expect(chat.titles).to_be_visible()
    chat.titles.tap()
    expect(chat.titles).to_be_hidden()
    assert chat.page.evaluate("document.documentElement.scrollWidth") == 390


def test_code_and_answers_are_copied_also_without_https(visit: Visit, url: str) -> None:
    chat = visit(url, permissions=["clipboard-read", "clipboard-write"])
    chat.ask(RICH)
    chat.button("Copy the code").click()
    expect(chat.page.locator(".code .said")).to_have_text("Copied")
    assert chat.page.evaluate("navigator.clipboard.readText()") == "print('你好')\n"
    read = chat.page.evaluate_handle("() => { const real = navigator.clipboard; return () => real.readText(); }")
    chat.page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    chat.button("Copy", chat.page.locator(".message.assistant")).click()
    expect(chat.page.get_by_role("status")).to_have_text("Copied")
    assert violations(chat.page) == []
    assert chat.page.evaluate("read => read()", read) == RICH


def test_what_stands_before_the_last_block_is_left_alone_while_an_answer_comes(
    visit: Visit, url: str, engine: ScriptedEngine
) -> None:
    """In parts, so that the browser lays out a few dozen elements for a piece of text, however long the answer is."""
    engine.step_seconds, engine.per_step, engine.context_length = 0.02, 32, 40_000
    engine.reply = lambda _: "".join(f"line {number}\n\n- one\n- two\n\n" for number in range(60))
    chat = visit(url)
    chat.send("question")
    expect(chat.answer.locator(".block").nth(60)).to_be_attached()
    marked = chat.page.evaluate(
        "[...document.querySelectorAll('.block')].slice(0, -1).map(one => one.dataset.kept = '').length"
    )
    chat.wait()
    expect(chat.answer.locator(".block")).to_have_count(120)
    expect(chat.answer.locator(".block[data-kept]")).to_have_count(marked)
    parts = chat.page.evaluate("[...document.querySelectorAll('.written > *')].map(one => one.children.length)")
    assert parts == [24] * 5
    lines = chat.answer.locator(".block > p").all_inner_texts()
    assert lines == [f"line {number}" for number in range(60)]


def test_reading_further_up_is_not_disturbed(visit: Visit, url: str, engine: ScriptedEngine) -> None:
    """Nor by the end of the answer, which draws the whole conversation anew."""
    engine.endless, engine.holds, engine.per_step = True, (lambda number: number > 55), 32
    engine.reply = lambda _: "a line of an answer\n\n"
    chat = visit(url)
    chat.send("question")
    end = chat.button("To the latest message")
    expect(chat.answer.locator(".block").nth(50)).to_be_attached()
    expect(end).to_be_hidden()
    chat.page.evaluate("document.getElementById('thread').scrollTop = 10")
    expect(end).to_be_visible()
    engine.holds = never
    chat.wait()
    chat.page.wait_for_function("document.getElementById('thread').scrollTop === 10")
    end.click()
    expect(end).to_be_hidden()
