"""The documentation site as readers have it: searched, on a phone, in the dark, in the other language."""

import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.support.chromium import find_chromium


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


# Not for the session: while it runs, no test of another folder could run an event loop in this thread.
@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    found = find_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found.path, env=dict(found.environment), args=["--no-sandbox"]
        )
        page = browser.new_page(locale="zh-CN", viewport={"width": 390, "height": 844}, color_scheme="dark")
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        yield page
        browser.close()
        assert wrong == []


def test_readers_begin_in_their_language_and_come_to_the_same_page_in_the_other(page: Page, address: str) -> None:
    page.goto(f"{address}/")
    page.wait_for_url(f"{address}/zh/index.html")
    page.goto(f"{address}/zh/migrating.html")
    page.locator("a.language-switch").evaluate("link => link.click()")
    page.wait_for_url(f"{address}/en/migrating.html")


@pytest.mark.parametrize(
    ("language", "asked", "found"),
    [
        ("zh", "适配器", "serving.html"),
        ("zh", "KV缓存的类型", "settings.html"),
        ("en", "adapters", "serving.html"),
    ],
)
def test_a_search_finds_pages(page: Page, address: str, language: str, asked: str, found: str) -> None:
    page.goto(f"{address}/{language}/search.html?q={asked}")
    expect(page.locator(f"#search-results a[href^='{found}']").first).to_be_visible()


@pytest.mark.parametrize("name", ["index", "migrating", "settings", "serving"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_page_fits_a_phone_and_is_dark_where_that_is_wished(
    page: Page, address: str, language: str, name: str
) -> None:
    page.goto(f"{address}/{language}/{name}.html")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(map(int, background.removeprefix("rgb(").removesuffix(")").split(","))) < 150
