"""Measures the chat page in a browser: bytes, first paint, hundreds of conversations, and the frames of a long answer.

    python -m bench.page [--tokens 10000] [--rate 250]

The browser is the one of the tests of the page, without a GPU; the server is a scripted engine in the same process, so
both share the cores of this machine. A token is three letters. First paint is Chromium's first-contentful-paint with an
empty cache, the median of five. Frames are counted while the answer comes: how many a second, the longest tenth of the
pauses between two, and the pauses above 50 ms, which are seen. On a busy machine the cost of a frame tells more: the
CPU time of the page's main thread. At 60 frames a second there are 16.7 ms for it. It is told for the whole answer and
for its last tenth, where the page is longest.
"""

import argparse
import os
import statistics
import time
from contextlib import suppress
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from glmserve.engine.interface import EngineState
from glmserve.page.router import read_page
from tests.support.api import make_app, serve
from tests.support.chromium import find_chromium
from tests.support.scripted_engine import ScriptedEngine

AXE = Path("tests/page/node_modules/axe-core/axe.min.js")
LATE = ("vendor/katex.js", "vendor/katex.css", "vendor/highlight.js")
LOADED = (".js", ".css", ".svg")
RUNS = 5
PARTS = ("ScriptDuration", "RecalcStyleDuration", "LayoutDuration")
CONVERSATIONS = 200
SEED = """count => {
    const text = "a sentence of an answer, again and again. ".repeat(20);
    for (let n = 0; n < count; n += 1) {
        const id = (0x10000000 + n).toString(16);
        const turn = [{ role: "user", content: `question ${n}` }, { role: "assistant", content: text, end: "stop" }];
        const messages = [turn, turn, turn, turn].flat();
        const conversation = { id, title: `title ${n}`, updated: Date.now() - n * 3e7, system: "", messages };
        localStorage.setItem(`glmserve/conversation.${id}`, JSON.stringify(conversation));
    }
}"""
STOPS = """() => [...document.querySelectorAll("button, input, select, textarea")]
    .filter(one => one.tabIndex >= 0 && one.checkVisibility()).length"""
SEARCH = """() => new Promise(done => {
    const begun = performance.now();
    const field = document.getElementById("search");
    field.value = "question";
    field.dispatchEvent(new Event("input"));
    requestAnimationFrame(() => setTimeout(() => done(performance.now() - begun)));
})"""
FRAMES = """() => {
    window.frames = [];
    let last = performance.now();
    const frame = (now) => {
        window.frames.push(now - last);
        last = now;
        window.counting = requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
}"""
ENDED = """() => new Promise(resolve => {
    const ended = () => document.querySelector(".message.assistant .actions button");
    const observer = new MutationObserver(() => ended() && (observer.disconnect(), resolve()));
    observer.observe(document.getElementById("thread"), { childList: true, subtree: true });
    document.getElementById("send").click();
})"""
PART = """## Part

Some words of *prose* with a formula $a_1 + b_1 = c_1$ and `code`, as answers have them.

- first
- second with **weight**

```python
def add(a: int, b: int) -> int:
    return a + b
```

| name | value |
|---|---|
| x | 1 |

$$\\sum_{i=1}^{n} i = \\frac{n(n+1)}{2}$$

"""


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=10_000, help="of the long answer")
    parser.add_argument("--rate", type=float, default=250, help="tokens a second of the long answer")
    options = parser.parse_args()
    _bytes()
    text = (PART * (3 * options.tokens // len(PART) + 1))[: 3 * options.tokens]
    engine = ScriptedEngine(
        reply=lambda _: text,
        per_step=3,
        step_seconds=1 / options.rate,
        starts=1,
        state=EngineState.READY,
        context_length=8 * len(text),
    )
    found = find_chromium()
    with serve(make_app(engine)) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found.path, env=dict(found.environment), args=["--no-sandbox"]
        )
        _paint(browser, url)
        _many(browser, url)
        _long(browser, url, options.tokens, options.rate)
        browser.close()


def _bytes() -> None:
    page = read_page()
    sizes = {name: len(part.packed) for name, part in page.parts.items()}
    late = sum(sizes[name] for name in LATE)
    first = len(page.entry.packed) + sum(size for name, size in sizes.items() if name.endswith(LOADED)) - late
    fonts = sum(len(part.content) for name, part in page.parts.items() if name.endswith(".woff2"))
    print(f"by gzip {first / 1000:.0f} kB at first, {late / 1000:.0f} kB late; fonts of formulas {fonts / 1000:.0f} kB")


def _paint(browser: Browser, url: str) -> None:
    times = []
    for _ in range(RUNS):
        page = browser.new_context().new_page()
        page.goto(url)
        times.append(_first_paint(page))
        page.context.close()
    print(f"first paint after {statistics.median(times):.0f} ms, of {RUNS}: {min(times):.0f} to {max(times):.0f}")


def _first_paint(page: Page) -> float:
    page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
    return float(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))


def _many(browser: Browser, url: str) -> None:
    page = browser.new_context().new_page()
    page.goto(url)
    page.evaluate(SEED, CONVERSATIONS)
    page.reload()
    page.wait_for_function(f"document.querySelectorAll('#conversations .title').length === {CONVERSATIONS}")
    paint = _first_paint(page)
    stops = page.evaluate(STOPS)
    searched = statistics.median(page.evaluate(SEARCH) for _ in range(RUNS))
    page.evaluate(AXE.read_text("utf-8"))
    found = page.evaluate("axe.run()")["violations"]
    print(f"{CONVERSATIONS} conversations: first paint after {paint:.0f} ms, a search and its frame {searched:.0f} ms,")
    print(f"    {stops} stops of the tab key, {len(found)} findings of axe-core")
    page.context.close()


def _long(browser: Browser, url: str, tokens: int, rate: float) -> None:
    page = browser.new_context().new_page()
    page.goto(url)
    page.evaluate("most => localStorage.setItem('glmserve/sampling', JSON.stringify({ maxTokens: most }))", 4 * tokens)
    page.reload()
    page.fill("#prompt", "question")
    page.evaluate(FRAMES)
    watch = _Watch(page)
    page.evaluate(f"window.ended = ({ENDED})(), undefined")
    # Nothing else runs in the page meanwhile: a selector that is waited for would be looked up with each frame.
    time.sleep(0.9 * tokens / rate)
    late = _Watch(page)
    page.evaluate("window.ended")
    costs = (("", watch.costs()), (" of the last part", late.costs()))
    assert page.locator(".message.assistant .block").count() > tokens / 100, "the answer was cut"
    pauses = sorted(page.evaluate("(cancelAnimationFrame(window.counting), window.frames)"))
    seconds = sum(pauses) / 1000
    tenth = pauses[len(pauses) * 9 // 10]
    seen = sum(pause > 50 for pause in pauses)
    print(f"{tokens} tokens in {seconds:.0f} s: {len(pauses) / seconds:.0f} frames a second, a tenth of the pauses is")
    print(f"    longer than {tenth:.0f} ms, {seen} of {len(pauses)} are longer than 50 ms;")
    for name, cost in costs:
        print(f"    a frame{name} takes {cost}")
    page.context.close()


class _Watch:
    """The costs of the frames of a page from now on."""

    def __init__(self, page: Page) -> None:
        """Begin; the page counts its frames."""
        self._page = page
        self._devtools = page.context.new_cdp_session(page)
        self._devtools.send("Performance.enable")
        self._before = self._now()

    def _now(self) -> tuple[float, ...]:
        told = self._devtools.send("Performance.getMetrics")["metrics"]
        metrics = {one["name"]: one["value"] for one in told}
        return (self._page.evaluate("window.frames.length"), _busy(), *(metrics[name] for name in PARTS))

    def costs(self) -> str:
        """Return the milliseconds of a frame; its parts are measured by the clock, so other work counts, too."""
        frames, *seconds = (now - before for now, before in zip(self._now(), self._before, strict=True))
        busy, script, style, layout = (1000 * one / frames for one in seconds)
        parts = f"script {script:.1f}, style {style:.1f}, layout {layout:.1f}"
        return f"{busy:.1f} ms of CPU time of the page's main thread (by the clock: {parts})"


def _busy() -> float:
    """Return how many seconds of CPU time the main threads of all pages took: other work on the machine counts not."""
    seconds = 0.0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if b"--type=renderer" in (process / "cmdline").read_bytes():
                times = (process / "task" / process.name / "stat").read_text().rpartition(")")[2].split()
                seconds += (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")
    return seconds


if __name__ == "__main__":
    main()
