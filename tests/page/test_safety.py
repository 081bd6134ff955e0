"""What an answer must not be able to do."""

import pytest
from playwright.sync_api import expect

from tests.page.conftest import Visit
from tests.support.scripted_engine import ScriptedEngine

HOSTILE = (
    "<script>document.title = 'taken'</script>",
    "text <img src=x onerror=\"document.title = 'taken'\"> text",
    "<svg onload=\"document.title = 'taken'\"></svg>",
    "<iframe srcdoc=\"<script>parent.document.title = 'taken'</script>\"></iframe>",
    "<style>body { display: none }</style>",
    "<form action=https://elsewhere.example><input name=x></form>",
    "- item\n  <details open ontoggle=\"document.title = 'taken'\">x</details>",
    "| a | b |\n|---|---|\n| <b onclick=alert(1)>x</b> | <script>1</script> |",
    "```html\n<script>document.title = 'taken'</script>\n```",
    "<!-- comment --> <![CDATA[ <script> ]]>",
)


@pytest.fixture(autouse=True)
def in_small_pieces(engine: ScriptedEngine) -> None:
    """Halves of tags and of code fences come by, too."""
    engine.per_step = 3


def test_html_of_an_answer_is_shown_as_text(visit: Visit, url: str) -> None:
    chat = visit(url)
    for text in HOSTILE:
        chat.ask(text)
    expect(chat.page).not_to_have_title("taken")
    elements = "script, img, svg, iframe, style, form, input, details, b, [onclick], [onerror], [onload], [ontoggle]"
    expect(chat.answers.locator(elements)).to_have_count(0)
    expect(chat.answers.nth(0)).to_contain_text("<script>document.title = 'taken'</script>")
    expect(chat.answers.nth(1)).to_contain_text("<img src=x onerror=")
    expect(chat.answers.locator("td").nth(0)).to_have_text("<b onclick=alert(1)>x</b>")
    expect(chat.answers.locator("figure.code pre")).to_have_text("<script>document.title = 'taken'</script>\n")


def test_a_link_that_is_none_to_another_page_leads_nowhere(visit: Visit, url: str) -> None:
    chat = visit(url)
    links = (
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "data:text/html,<script>1</script>",
        "vbscript:x",
        "/v1/models",
    )
    chat.ask("\n".join(f"[click]({link}) <{link}>" for link in links))
    expect(chat.answer).to_contain_text("click")
    expect(chat.answer.locator("a[href]")).to_have_count(0)


def test_links_and_pictures_open_elsewhere_and_load_nothing(visit: Visit, url: str) -> None:
    chat = visit(url)
    asked = []
    chat.page.on("request", lambda request: asked.append(request.url))
    chat.ask("[there](https://example.com/a) and ![a picture](https://example.com/b.png) <https://example.com/c>")
    links = chat.answer.locator("a")
    expect(links).to_have_text(["there", "a picture", "https://example.com/c"])
    for link in links.all():
        assert link.get_attribute("rel") == "noopener noreferrer"
        assert link.get_attribute("target") == "_blank"
    assert [address for address in asked if not address.startswith(url)] == []


def test_the_policy_stops_what_would_get_past_the_page(visit: Visit, url: str) -> None:
    chat = visit(url)
    thrown = chat.page.evaluate(
        """() => {
            try { document.getElementById("thread").innerHTML = "<img src=x>"; return ""; }
            catch (error) { return error.name; }
        }"""
    )
    assert thrown == "TypeError"
    ran = chat.page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.append("document.title = 'taken'");
            try { document.body.append(script); } catch { /* refused before it is even there */ }
            return document.title;
        }"""
    )
    assert ran != "taken"
    assert chat.complaints
    chat.complaints.clear()


def test_markdown_is_read_as_chinese_is_written(visit: Visit, url: str) -> None:
    """Emphasis beside Chinese marks, which CommonMark does not find; single line breaks, which models mean."""
    chat = visit(url)
    chat.ask("这是**“重点”**内容。**注意：**后面\n第二行 2**3**4 和 `**不是“重点”**内容`")
    expect(chat.answer.locator("strong")).to_have_text(["“重点”", "注意：", "3"])
    expect(chat.answer.locator("code")).to_have_text("**不是“重点”**内容")
    expect(chat.answer.locator("br")).to_have_count(1)
    chat.ask("|甲|乙|\n|:-|-:|\n|一|2|\n\n3. 三\n4. 四\n\n- [x] 完成\n- [ ] 待办")
    expect(chat.answer.locator("td").last).to_have_attribute("align", "right")
    expect(chat.answer.locator("ol")).to_have_attribute("start", "3")
    expect(chat.answer.locator("ul li")).to_have_text(["☑ 完成", "☐ 待办"])


def test_a_question_is_never_read_as_markup(visit: Visit, url: str) -> None:
    chat = visit(url)
    chat.ask("<b>bold</b> **bold** \n  indented")
    assert chat.questions.last.text_content() == "<b>bold</b> **bold** \n  indented"


def test_long_tables_and_lines_do_not_widen_the_page(visit: Visit, url: str) -> None:
    chat = visit(url, viewport={"width": 360, "height": 640})
    wide = "|" + "|".join(f"column{i}" for i in range(30)) + "|\n" + "|---" * 30 + "|\n" + "|∑x²≤文" * 30 + "|"
    chat.ask(wide)
    chat.ask("x" * 1000)
    chat.ask("```\n" + "y" * 500 + "\n```")
    assert chat.page.evaluate("document.documentElement.scrollWidth") == 360
    assert chat.page.evaluate("document.getElementById('thread').scrollWidth") <= 360
