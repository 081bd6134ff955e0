"""The two languages: a link from each page to its other version, and links from Chinese pages to English ones."""

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

_ENGLISH = re.compile(r"\[([^\]]+)\]\(\.\./([\w-]+)\.md(#[\w-]+)?\)")


def english_links(page: str) -> str:
    """Return a Chinese page whose links to English sources (``../settings.md``) lead to the English site."""
    return _ENGLISH.sub(r'<a href="../en/\2.html\3">\1</a>', page)


def _rewrite(app: Sphinx, _: str, source: list[str]) -> None:
    if app.tags.has("zh"):
        source[0] = english_links(source[0])


def _anchors(_: Sphinx, doctree: nodes.document) -> None:
    # The anchors of a code host: older versions of MyST know them, but do not put them into the page.
    for section in doctree.findall(nodes.section):
        if section.get("slug") and section["slug"] not in section["ids"]:
            section["ids"].append(section["slug"])


def _switch(app: Sphinx, page: str, _: str, context: dict[str, Any], __: object) -> None:
    chinese = app.tags.has("zh")
    sources = Path(app.srcdir).parent if chinese else Path(app.srcdir) / "zh"
    there = f"{page}.html" if (sources / f"{page}.md").exists() else "index.html"
    context["other_language"] = {
        "code": "en" if chinese else "zh",
        "lang": "en" if chinese else "zh-CN",
        "name": "English" if chinese else "中文",
        "url": f"../{'en' if chinese else 'zh'}/{there}",
    }


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("source-read", _rewrite)
    app.connect("doctree-read", _anchors)
    app.connect("html-page-context", _switch)
    return {"parallel_read_safe": True}
