"""The chat page as its users see it: what they do, and what they find on it."""

from dataclasses import dataclass, field

from playwright.sync_api import ConsoleMessage, Locator, Page, expect


@dataclass
class Chat:
    """One window with the page."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    """What the browser says of the page: errors of scripts, and what the policy forbade."""

    def __post_init__(self) -> None:
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._heard)

    def _heard(self, message: ConsoleMessage) -> None:
        # A status of 400 and more is told on the console, too, and is no fault of the page.
        if message.type == "error" and "the server responded with a status" not in message.text:
            self.complaints.append(message.text)

    def open(self, url: str) -> "Chat":
        self.page.goto(url)
        expect(self.page.locator("#send")).to_be_attached()
        return self

    def button(self, name: str, within: Locator | None = None) -> Locator:
        return (within or self.page).get_by_role("button", name=name, exact=True)

    @property
    def field(self) -> Locator:
        return self.page.locator("#prompt")

    @property
    def questions(self) -> Locator:
        return self.page.locator(".message.user .body")

    @property
    def answers(self) -> Locator:
        return self.page.locator(".message.assistant .body")

    @property
    def answer(self) -> Locator:
        return self.answers.last

    @property
    def titles(self) -> Locator:
        return self.page.locator("#conversations .title")

    @property
    def failure(self) -> Locator:
        return self.page.locator(".failure")

    @property
    def figures(self) -> Locator:
        return self.page.locator(".figures").last

    def send(self, text: str) -> None:
        self.field.fill(text)
        self.button("Send").click()

    def ask(self, text: str) -> str:
        """Send a message; returns the answer once it is whole."""
        # An earlier answer is whole, too: what is waited for is the one below the new question.
        self.questions.evaluate_all("all => all.forEach(one => one.dataset.earlier = '')")
        self.send(text)
        expect(self.page.locator(".message.user .body:not([data-earlier])")).not_to_have_count(0)
        self.wait()
        return self.answer.inner_text()

    def wait(self) -> None:
        done = self.page.locator(".message.assistant:last-child .actions button")
        # A real model on a busy machine takes its time.
        expect(done).not_to_have_count(0, timeout=30_000)

    def act(self, title: str, deed: str) -> None:
        """Choose something in the menu of a conversation."""
        entry = self.page.locator("#conversations li", has_text=title)
        entry.hover()
        entry.locator("button.more").click()
        self.page.get_by_role("menuitem", name=deed, exact=True).click()
