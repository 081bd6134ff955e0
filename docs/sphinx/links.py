"""Every link of the built site: whether its file and its anchor are there, and that no page loads from elsewhere."""

from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}


@dataclass(frozen=True)
class Findings:
    """Findings in a site."""

    pages: int
    internal: int
    external: set[str]
    problems: list[str]


class _Page(HTMLParser):
    """The links and the anchors of one page."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = {""}
        self.feed(file.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors.add(values.get("id", ""))
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif _LOADED.get(tag, "") in values:
            self.loaded.append(values[_LOADED[tag]])


def check(site: Path) -> Findings:
    """Return what is wrong with the links of all pages under ``site``."""
    pages = {file.resolve(): _Page(file.resolve()) for file in sorted(site.rglob("*.html"))}
    external: set[str] = set()
    problems: list[str] = []
    internal = 0
    for page in pages.values():
        where = page.file.relative_to(site.resolve())
        problems += [f"{where}: loads {link} from elsewhere" for link in page.loaded if urlsplit(link).netloc]
        for link in (*page.links, *page.loaded):
            if urlsplit(link).scheme or urlsplit(link).netloc:
                external.add(link)
                continue
            internal += 1
            if wrong := _wrong(page, link, pages):
                problems.append(f"{where}: {link}: {wrong}")
    return Findings(len(pages), internal, external, problems)


def _wrong(page: _Page, link: str, pages: dict[Path, _Page]) -> str | None:
    parts = urlsplit(link)
    target = (page.file.parent / unquote(parts.path)).resolve() if parts.path else page.file
    if target in pages:
        return None if unquote(parts.fragment) in pages[target].anchors else "no such anchor there"
    return None if target.is_file() else "no such file"
