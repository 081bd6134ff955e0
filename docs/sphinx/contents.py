"""The site's table of contents, made from the lists of links in ``index.md``: a code host shows the same page.

Each ``##`` heading of the index is a part, and each list item that begins with a link is a page of it. A page that is
in no list makes the build fail, as Sphinx warns of it.
"""

import re

from sphinx.application import Sphinx

_PART = re.compile(r"^## (.+)$")
_BARE = re.compile(r"\[[\w-]+\.md\]\(([\w-]+\.md)\)")
_PAGE = re.compile(r"^- \[[^\]]+\]\(([\w-]+)\.md\)")


def toctrees(index: str) -> str:
    """Return the directives that say to Sphinx what the lists of the index say to readers."""
    parts: list[tuple[str, list[str]]] = []
    for line in index.splitlines():
        if part := _PART.match(line):
            parts.append((part[1], []))
        elif (page := _PAGE.match(line)) and parts:
            parts[-1][1].append(page[1])
    return "".join(
        "\n```{toctree}\n:hidden:\n:caption: " + caption + "\n\n" + "\n".join(pages) + "\n```\n"
        for caption, pages in parts
        if pages
    )


def _read(_: Sphinx, docname: str, source: list[str]) -> None:
    # What is called by its file in the repository is called by its title here.
    source[0] = _BARE.sub(r"[](\1)", source[0])
    if docname == "index":
        source[0] += toctrees(source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True}
