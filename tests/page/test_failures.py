"""What the page says when something goes wrong, and what it does then."""

from playwright.sync_api import Browser, Route, expect

from glmserve.bootstrap.app import ApiOptions
from glmserve.engine.errors import DecodeFailed, EngineDied, EngineUnavailable, QueueFull
from glmserve.http.api_keys import ApiKeyStore, parse_keys
from glmserve.http.request_record import Limits
from tests.page.chat import Chat
from tests.page.conftest import Serve, Visit
from tests.support.scripted_engine import ScriptedEngine
from tests.support.tcp_proxy import TcpProxy

KEYS = ApiKeyStore(parse_keys(["sk-the-right-one"], Limits(), "test"))


def test_a_full_queue_is_waited_for_and_asked_again(visit: Visit, url: str, engine: ScriptedEngine) -> None:
    engine.reject = QueueFull(64, retry_after=2)
    chat = visit(url)
    chat.send("question")
    expect(chat.failure).to_contain_text("Too many requests are waiting at the moment.")
    expect(chat.failure).to_contain_text("Trying again in 1 s")
    engine.reject = None
    expect(chat.answer).to_have_text("question")
    expect(chat.failure).to_have_count(0)


def test_the_waiting_can_be_called_off_and_the_rest_done_by_hand(
    visit: Visit, url: str, engine: ScriptedEngine
) -> None:
    engine.reject = EngineUnavailable("the engine is restarting")
    chat = visit(url)
    chat.send("question")
    expect(chat.failure).to_contain_text("The model is being started, or started again.")
    chat.button("Cancel").click()
    expect(chat.failure).not_to_contain_text("Trying again")
    engine.reject = None
    chat.button("Try again").click()
    expect(chat.answer).to_have_text("question")


def test_an_engine_that_dies_leaves_the_text_to_be_gone_on_with(visit: Visit, url: str, engine: ScriptedEngine) -> None:
    engine.fail, engine.per_step = EngineDied("the engine process ended"), 8
    chat = visit(url)
    chat.send("abcdefghijklmnop")
    expect(chat.failure).to_contain_text("the engine process ended")
    expect(chat.answer).to_have_text("abcdefg")
    engine.fail, engine.reply = None, lambda _: "and the rest"
    chat.button("Continue").click()
    expect(chat.answer).to_have_text("abcdefg and the rest")
    expect(chat.field).to_be_focused()
    assert engine.submissions[-1].prompt.endswith("答：abcdefg")


def test_a_connection_that_breaks_keeps_what_had_come(visit: Visit, url: str, engine: ScriptedEngine) -> None:
    engine.endless, engine.holds = True, lambda number: number > 2
    with TcpProxy([url]) as proxy:
        chat = visit(proxy.url)
        chat.send("word ")
        expect(chat.answer).to_contain_text("word")
        proxy.cut()
        expect(chat.failure).to_contain_text("The connection was lost. What was received is kept.")
        expect(chat.answer).to_contain_text("word")
        expect(chat.button("Continue")).to_be_visible()
        chat.complaints.clear()


def test_a_server_that_is_gone_is_told_and_found_again(visit: Visit, url: str) -> None:
    chat = visit(url)
    chat.page.context.set_offline(True)
    chat.send("question")
    expect(chat.failure).to_contain_text("The server cannot be reached.")
    chat.page.context.set_offline(False)
    chat.button("Try again").click()
    expect(chat.answer).to_have_text("question")
    chat.complaints.clear()


def test_what_the_server_refuses_is_told_in_its_words(visit: Visit, url: str, engine: ScriptedEngine) -> None:
    engine.reject = DecodeFailed("llama.cpp refused the batch")
    chat = visit(url)
    chat.send("question")
    expect(chat.failure).to_contain_text("The server failed to answer.")
    expect(chat.failure).to_contain_text("llama.cpp refused the batch")


def test_a_message_that_is_too_long_by_itself_says_so_and_offers_nothing_that_fails_again(
    visit: Visit, url: str
) -> None:
    chat = visit(url)
    chat.send("x" * 5000)
    expect(chat.failure).to_contain_text("The message is too long for the model.")
    expect(chat.failure.get_by_role("button")).to_have_count(0)
    expect(chat.button("Regenerate")).to_have_count(0)


def test_a_long_conversation_goes_on_without_its_oldest_messages(
    visit: Visit, url: str, engine: ScriptedEngine
) -> None:
    engine.context_length = 500
    chat = visit(url)
    for name in ("alpha", "beta", "gamma", "delta"):
        chat.ask(f"{name} " * 14)
    expect(chat.failure).to_have_count(0)
    expect(chat.page.locator(".cut:visible")).to_contain_text("messages above are not sent")
    assert "alpha" not in engine.submissions[-1].prompt
    assert "gamma" in engine.submissions[-1].prompt
    assert "delta" in engine.submissions[-1].prompt


def test_a_key_is_asked_for_and_kept_until_the_tab_is_closed(visit: Visit, serve_with: Serve) -> None:
    chat = visit(serve_with(ScriptedEngine(), ApiOptions(keys=KEYS)))
    chat.button("Cancel").click()
    chat.button("Enter a key", chat.page.get_by_role("alert")).click()
    chat.page.get_by_role("textbox", name="API key").fill("sk-a-wrong-one")
    chat.button("Use this key").click()
    expect(chat.page.get_by_role("dialog")).to_contain_text("The server does not know this key.")
    chat.page.get_by_role("textbox", name="API key").fill("sk-the-right-one")
    chat.button("Use this key").click()
    expect(chat.page.get_by_role("dialog")).to_have_count(0)
    assert chat.ask("question") == "你问的是：question"
    assert "sk-the-right-one" not in chat.page.evaluate("JSON.stringify(localStorage)")
    chat.page.reload()
    chat.ask("again")
    chat.button("Options").click()
    chat.button("Forget the key").click()
    expect(chat.page.get_by_role("dialog")).to_be_visible()


def test_a_key_that_is_taken_away_is_asked_for_again(visit: Visit, serve_with: Serve) -> None:
    chat = visit(serve_with(ScriptedEngine(), ApiOptions(keys=KEYS)))
    chat.page.get_by_role("textbox", name="API key").fill("sk-the-right-one")
    chat.button("Use this key").click()
    expect(chat.page.locator("#model")).to_be_enabled()
    chat.page.evaluate("for (const name of Object.keys(sessionStorage)) sessionStorage[name] = 'sk-no-more'")
    chat.send("question")
    expect(chat.page.get_by_role("dialog")).to_contain_text("The server does not know this key.")
    chat.button("Cancel").click()
    chat.button("Enter a key", chat.failure).click()
    chat.page.get_by_role("textbox", name="API key").fill("sk-the-right-one")
    chat.button("Use this key").click()
    expect(chat.answer).to_have_text("你问的是：question")
    expect(chat.questions).to_have_count(1)


def test_it_works_below_a_prefix(url: str, browser: Browser) -> None:
    """As behind a proxy that takes the prefix away."""
    paths = []

    def forward(route: Route) -> None:
        paths.append(route.request.url.removeprefix(url))
        assert paths[-1].startswith("/some/prefix/")
        route.fulfill(response=route.fetch(url=route.request.url.replace("/some/prefix/", "/")))

    context = browser.new_context()
    context.route("**/*", forward)
    chat = Chat(context.new_page()).open(f"{url}/some/prefix/")
    assert chat.ask("question") == "question"
    assert "/some/prefix/v1/chat/completions" in paths
    context.close()
