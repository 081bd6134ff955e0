"""The page in daily use: hundreds of conversations, files, formulas, several answers at once, everything kept."""

import json
from pathlib import Path

from playwright.sync_api import FilePayload, expect
from typing_extensions import Unpack

from tests.page.chat import Chat
from tests.page.conftest import Visit, Window
from tests.page.test_use import PHONE
from tests.support.scripted_engine import ScriptedEngine, never

SEED = """count => {
    for (let n = 0; n < count; n += 1) {
        const id = (0x10000000 + n).toString(16);
        const updated = Date.now() - n * 86400000 / 4;
        const messages = [{ role: "user", content: `question ${n}` }, { role: "assistant", content: "x", end: "stop" }];
        const conversation = { id, title: `title ${n}`, updated, system: "", messages };
        localStorage.setItem(`glmserve/conversation.${id}`, JSON.stringify(conversation));
    }
}"""
FORMULAS = (
    "<think>\n想一想 $y$\n</think>\n\n解是 $x^2$ 和\n\n$$\\frac{-b\\pm\\sqrt{b^2-4ac}}{2a}\\color{red}{z}$$\n\n"
    "\\(\\href{javascript:alert(1)}{bad}\\) 价格 $5 和 $6，$\\nonsense{x}$\n\n"
    "```python\ndef f(x): return 'y'  # z\n```\n"
)


def visit_with(visit: Visit, url: str, count: int, **window: Unpack[Window]) -> Chat:
    chat = visit(url, **window)
    chat.page.evaluate(SEED, count)
    chat.page.reload()
    expect(chat.titles).to_have_count(count)
    return chat


def test_200_conversations_are_one_stop_of_the_tab_key_and_are_searched(visit: Visit, url: str) -> None:
    chat = visit_with(visit, url, 200)
    page = chat.page
    stops = page.evaluate(
        "[...document.querySelectorAll('#conversations button')].filter(one => one.tabIndex >= 0).length"
    )
    assert stops == 2, "the entry, and its menu"
    expect(page.locator("#conversations h2").first).to_have_text("Today")
    chat.titles.first.focus()
    page.keyboard.press("End")
    expect(chat.titles.last).to_be_focused()
    entry = page.locator("#conversations li").last
    entry.hover()
    entry.locator(".more").click()
    expect(page.get_by_role("menu")).to_be_visible()
    box = page.get_by_role("menu").bounding_box()
    assert box is not None
    assert box["y"] >= 0
    assert box["y"] + box["height"] <= page.evaluate("innerHeight"), "the menu is cut off low in the list"
    page.keyboard.press("Escape")
    expect(entry.locator(".more")).to_be_focused()
    chat.act("title 199", "Pin")
    expect(page.locator("#conversations h2").first).to_have_text("Pinned")
    expect(chat.titles.first).to_contain_text("title 199")
    page.keyboard.press("Control+k")
    page.keyboard.type("QUESTION 137")
    expect(chat.titles).to_have_text(["title 137"])
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(chat.questions).to_have_text(["question 137"])


def test_everything_is_exported_deleted_and_imported_again(visit: Visit, url: str) -> None:
    chat = visit(url)
    chat.ask("kept question")
    chat.button("Regenerate").click()
    expect(chat.page.locator(".place")).to_have_text("2/2")
    menu = chat.button("More")

    def choose(deed: str) -> None:
        menu.click()
        chat.page.get_by_role("menuitem", name=deed, exact=True).click()

    with chat.page.expect_download() as download:
        choose("Export all conversations")
    file = Path(download.value.path())
    assert len(json.loads(file.read_text("utf-8"))["conversations"]) == 1
    choose("Delete all conversations")
    chat.button("Delete all conversations", chat.page.get_by_role("dialog")).click()
    expect(chat.titles).to_have_count(0)
    for told in ("Conversations imported: 1.", "Conversations imported: 0 of 1."):
        with chat.page.expect_file_chooser() as chooser:
            choose("Import conversations")
        chooser.value.set_files({"name": "all.json", "mimeType": "application/json", "buffer": file.read_bytes()})
        notice = chat.page.get_by_role("alert")
        expect(notice).to_contain_text(told)
        assert "news" in str(notice.get_attribute("class")), "it looks like a failure"
    chat.titles.click()
    expect(chat.page.locator(".place")).to_have_text("2/2")


def test_text_files_are_attached_dropped_and_pasted(visit: Visit, url: str, engine: ScriptedEngine) -> None:
    engine.context_length, engine.reply = 40_000, lambda _: "read"
    chat = visit(url)
    with chat.page.expect_file_chooser() as chooser:
        chat.button("Attach text files").click()
    files: list[FilePayload] = [
        {"name": "old.txt", "mimeType": "", "buffer": "你好".encode("gb18030")},
        {"name": "picture.png", "mimeType": "", "buffer": b"\x89PNG\r\n\x1a\n\x00\x00"},
    ]
    chooser.value.set_files(files)
    expect(chat.page.get_by_role("alert")).to_contain_text("picture.png is not a text file.")
    chat.page.evaluate(
        """() => {
            const dropped = new DataTransfer();
            dropped.items.add(new File(["dropped text"], "dropped.md"));
            const drop = { dataTransfer: dropped, bubbles: true, cancelable: true };
            document.body.dispatchEvent(new DragEvent("drop", drop));
            const pasted = new DataTransfer();
            pasted.setData("text/plain", "pasted ".repeat(700));
            const event = { clipboardData: pasted, bubbles: true, cancelable: true };
            document.getElementById("prompt").dispatchEvent(new ClipboardEvent("paste", event));
        }"""
    )
    expect(chat.page.locator(".chip")).to_contain_text(["old.txt", "pasted.txt", "dropped.md"], timeout=5000)
    chat.button("Remove dropped.md").click()
    chat.ask("what is in there?")
    prompt = engine.submissions[-1].prompt
    assert "old.txt\n```\n你好\n```" in prompt
    assert "pasted.txt\n```\npasted pasted" in prompt
    assert "dropped" not in prompt
    expect(chat.page.locator(".file summary")).to_have_count(2)


def test_formulas_code_and_thoughts_are_drawn_within_the_policy(visit: Visit, url: str, engine: ScriptedEngine) -> None:
    """The window must not complain: KaTeX and highlight.js run under the same policy as all else."""
    engine.reply, engine.per_step = lambda _: FORMULAS, 5
    chat = visit(url)
    chat.ask("formulas")
    expect(chat.answer.locator(".math .katex")).to_have_count(4)
    expect(chat.answer.locator(".math.display .mfrac")).to_have_count(1)
    expect(chat.answer.locator(".hljs-keyword")).to_have_text(["def", "return"])
    expect(chat.answer.locator("details.thought")).not_to_have_attribute("open", "")
    expect(chat.answer.locator(".written").last).to_contain_text("价格 $5 和 $6")
    expect(chat.answer).to_contain_text("\\nonsense{x}")
    expect(chat.answer.locator("a")).to_have_count(0)
    # Fails by its time where the fonts of formulas are not loaded.
    chat.page.wait_for_function("document.fonts.check('16px KaTeX_Main')")


def test_several_conversations_are_answered_at_once_and_marked(visit: Visit, url: str, engine: ScriptedEngine) -> None:
    engine.reply, engine.holds = (lambda _: "word " * 400), lambda number: number > 1
    chat = visit(url)
    for name in ("first", "second"):
        chat.send(name)
        expect(chat.answer).to_contain_text("word")
        chat.page.keyboard.press("Control+Shift+o")
    expect(chat.page.get_by_role("img", name="Being answered")).to_have_count(2)
    engine.holds = never
    expect(chat.page.get_by_role("img", name="Answered", exact=True)).to_have_count(2)
    chat.titles.first.click()
    expect(chat.page.get_by_role("img", name="Answered", exact=True)).to_have_count(1)


def test_the_samplers_belong_to_the_conversation(visit: Visit, url: str, engine: ScriptedEngine) -> None:
    chat = visit(url)
    chat.page.keyboard.press("Control+.")
    chat.page.get_by_text("More", exact=True).last.click()
    chat.page.get_by_label("Top K").fill("40")
    chat.page.get_by_label("Seed").fill("7")
    chat.page.get_by_label("Stop strings").fill("END")
    chat.page.get_by_label("JSON schema of the answer").fill("{")
    expect(chat.page.locator("#options").get_by_role("alert")).to_contain_text("not a JSON object")
    chat.page.get_by_label("JSON schema of the answer").fill("")
    chat.button("Use for new conversations").click()
    expect(chat.button("Used for new conversations")).to_be_visible()
    chat.page.get_by_label("Seed").fill("8")
    chat.ask("abc END def")
    params = engine.submissions[-1].params
    assert (params.top_k, params.seed) == (40, 8)
    expect(chat.answer).to_have_text("abc")
    chat.page.keyboard.press("Control+Shift+o")
    chat.ask("abc END def")
    assert engine.submissions[-1].params.seed == 7
    chat.page.evaluate("localStorage.clear()")
    chat.page.reload()
    chat.ask("abc END def")
    assert engine.submissions[-1].params.seed is None
    expect(chat.answer).to_have_text("abc END def")


def test_nothing_lies_on_anything_else(visit: Visit, url: str, engine: ScriptedEngine) -> None:
    """The button to the latest beside the field, the answer close under its question, the cursor behind the text."""
    engine.reply = lambda _: "\n\n".join(["line"] * 40)
    chat = visit(url)
    chat.ask("first")
    engine.holds = lambda number: number > 5
    chat.send("second")
    # The first answer reads the same: the cursor is the second one's. Until its first word it stands in no paragraph.
    expect(chat.page.locator("p > .cursor")).to_be_visible()
    chat.page.locator("#thread").evaluate("element => { element.scrollTop = 0; }")
    expect(chat.page.locator("#to-end")).to_be_visible()
    box, field = (chat.page.locator(name).bounding_box() for name in ("#to-end", "#composer"))
    assert box is not None
    assert field is not None
    assert box["y"] + box["height"] <= field["y"]
    gap = chat.page.evaluate(
        """() => {
            const bottom = document.querySelector(".message.user .body").getBoundingClientRect().bottom;
            return document.querySelector(".message.assistant .head").getBoundingClientRect().top - bottom;
        }"""
    )
    assert 0 <= gap < 30
    chat.button("Stop").click()


def test_on_a_phone_the_list_does_not_cover_what_is_told(visit: Visit, url: str) -> None:
    chat = visit(url, **PHONE)
    chat.button("Conversations").click()
    chat.button("More").click()
    with chat.page.expect_file_chooser() as chooser:
        chat.page.get_by_role("menuitem", name="Import conversations").click()
    chooser.value.set_files({"name": "all.json", "mimeType": "application/json", "buffer": b"{}"})
    expect(chat.page.get_by_role("alert")).to_contain_text("all.json has no conversations")
    expect(chat.page.locator("#sidebar")).to_be_hidden()
    chat.ask("what was told is read by now")
    expect(chat.page.get_by_role("alert")).to_be_hidden()


def test_icons_keep_their_size_and_versions_stand_in_line(visit: Visit, url: str) -> None:
    """An icon beside a long name, and ‹ 2/2 › under a question whose other buttons are not to be seen."""
    chat = visit(url, viewport={"width": 500, "height": 700})
    with chat.page.expect_file_chooser() as chooser:
        chat.button("Attach text files").click()
    chooser.value.set_files({"name": f"{'long-name-' * 12}.txt", "mimeType": "", "buffer": b"text"})
    widths = "[...document.querySelectorAll('.chip > svg')].map(one => one.getBoundingClientRect().width)"
    chat.page.wait_for_function(f"{widths}.length === 1")
    assert chat.page.evaluate(widths)[0] > 18
    chat.ask("question")
    chat.page.locator(".message.user").hover()
    chat.button("Edit").click()
    chat.page.get_by_label("Edit your message").fill("another")
    chat.button("Send again").click()
    chat.wait()
    gap = chat.page.evaluate(
        """() => {
            const right = (name) => document.querySelector(`.message.user ${name}`).getBoundingClientRect().right;
            return Math.abs(right(".body") - right(".versions"));
        }"""
    )
    assert gap < 10
