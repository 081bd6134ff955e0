"""A browser, and servers for its pages: a scripted engine that echoes, or the real one."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from server.app import ApiOptions
from tests.page.chat import Chat
from tests.support.api import make_app, serve
from tests.support.chromium import find_chromium
from tests.support.scripted_engine import ScriptedEngine

Visit = Callable[..., Chat]
Serve = Callable[..., str]


# Not for the session: while it runs, no test of another folder could run an event loop in this thread.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    found = find_chromium()
    expect.set_options(timeout=10_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found.path, env=dict(found.environment), args=["--no-sandbox"]
        )
        yield browser
        browser.close()


@pytest.fixture
def servers() -> Iterator[ExitStack]:
    """Those of a test."""
    with ExitStack() as stack:
        yield stack


# Asks for the servers so that windows are closed before: a server waits for the connections it has.
@pytest.fixture
def visit(browser: Browser, servers: ExitStack) -> Iterator[Visit]:
    """Open the page in a window of its own; in the end nothing must have been wrong with any of them."""
    chats = []
    with ExitStack() as stack:

        def open_window(url: str, **options: object) -> Chat:
            context = stack.enter_context(browser.new_context(**{"locale": "en-US", **options}))
            chats.append(Chat(context.new_page()))
            return chats[-1].open(url)

        yield open_window
        assert [complaint for chat in chats for complaint in chat.complaints] == []


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine(reply=lambda submission: asked_of(submission.prompt), per_step=16)


def asked_of(prompt: str) -> str:
    """The last question of a prompt: what an answer is made of here."""
    return prompt.rpartition("问：")[2].removesuffix("\n\n答：")


@pytest.fixture
def serve_with(servers: ExitStack) -> Serve:
    """Start a server on an engine; returns its address."""

    def start(engine: ScriptedEngine, **options: object) -> str:
        return servers.enter_context(serve(make_app(engine, ApiOptions(**options))))

    return start


@pytest.fixture
def url(engine: ScriptedEngine, serve_with: Serve) -> str:
    """The address of a server whose answers are the questions."""
    return serve_with(engine)
