"""A browser, and servers for its pages: a scripted engine that says the question again, or others."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Literal, Protocol, TypedDict

import pytest
from playwright.sync_api import Browser, BrowserContext, ViewportSize, expect, sync_playwright
from typing_extensions import Unpack

from glmserve.bootstrap.app import ApiOptions
from glmserve.engine.interface import EngineState
from tests.page.chat import Chat
from tests.support.api import make_app, serve
from tests.support.chromium import find_chromium
from tests.support.scripted_engine import ScriptedEngine

Serve = Callable[[ScriptedEngine, ApiOptions], str]


class Window(TypedDict, total=False):
    """What a browser's window may be told to be, as ``Browser.new_context`` has it."""

    viewport: ViewportSize
    has_touch: bool
    is_mobile: bool
    color_scheme: Literal["light", "dark"]
    locale: str
    permissions: list[str]


class Visit(Protocol):
    """Opens the page in a new window."""

    def __call__(self, url: str, **window: Unpack[Window]) -> Chat: ...


# Not for the session: while it runs, no test of another folder could run an event loop in this thread.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    found = find_chromium()
    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found.path, env=dict(found.environment), args=["--no-sandbox"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def profiles(browser: Browser) -> dict[str, BrowserContext]:
    """Browsers with different settings; each has its own cache, which saves most of the time of opening the page."""
    return {}


@pytest.fixture
def servers() -> Iterator[ExitStack]:
    """Those of a test."""
    with ExitStack() as stack:
        yield stack


# Asks for the servers so that windows are closed before: a server waits for the connections it has.
@pytest.fixture
def visit(browser: Browser, profiles: dict[str, BrowserContext], servers: ExitStack) -> Iterator[Visit]:
    """Open the page in a new window; in the end nothing must have been wrong with any, and nothing is kept of them."""
    chats: list[Chat] = []

    def open_window(url: str, **window: Unpack[Window]) -> Chat:
        kind = repr(window)
        if kind not in profiles:
            in_english: Window = {"locale": "en-US", **window}
            profiles[kind] = browser.new_context(**in_english)
        chats.append(Chat(profiles[kind].new_page()))
        return chats[-1].open(url)

    yield open_window
    for chat in chats:
        if not chat.page.is_closed():
            forget(chat)
    assert [complaint for chat in chats for complaint in chat.complaints] == []


def forget(chat: Chat) -> None:
    """Close all windows of a profile; what the page wrote down as it was left goes, too."""
    page, profile = chat.page, chat.page.context
    origin = page.evaluate("location.origin")
    for other in profile.pages:
        if other is not page:
            other.close()
    page.goto("about:blank")
    devtools = profile.new_cdp_session(page)
    devtools.send("Storage.clearDataForOrigin", {"origin": origin, "storageTypes": "local_storage"})
    page.close()


@pytest.fixture(scope="package")
def scripted() -> Iterator[tuple[ScriptedEngine, str]]:
    """One engine and the address that it is served at."""
    engine = ScriptedEngine()
    with serve(make_app(engine)) as url:
        yield engine, url


@pytest.fixture
def engine(scripted: tuple[ScriptedEngine, str]) -> ScriptedEngine:
    """The engine behind ``url``: its script is a fresh one, which a test may change."""
    fresh = ScriptedEngine(
        reply=lambda submission: asked_of(submission.prompt), per_step=16, starts=1, state=EngineState.READY
    )
    vars(scripted[0]).update(vars(fresh))
    return scripted[0]


def asked_of(prompt: str) -> str:
    """The last question of a prompt: what an answer is made of here."""
    return prompt.rpartition("问：")[2].removesuffix("\n\n答：")


@pytest.fixture
def url(engine: ScriptedEngine, scripted: tuple[ScriptedEngine, str]) -> str:
    """The address of a server whose answers are the questions."""
    return scripted[1]


@pytest.fixture
def serve_with(servers: ExitStack) -> Serve:
    """Start another server on an engine, with options of its own; returns its address."""

    def start(engine: ScriptedEngine, options: ApiOptions) -> str:
        return servers.enter_context(serve(make_app(engine, options)))

    return start
