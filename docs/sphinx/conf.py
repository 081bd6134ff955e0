"""Sphinx configuration of both sites: English from docs/, Chinese (with ``--tag zh``) from docs/zh/."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

CHINESE = tags.has("zh")  # noqa: F821 - Sphinx puts it here

project = "glmserve"
language = "zh_CN" if CHINESE else "en"
extensions = ["myst_parser", "contents", "languages", "bigrams"]
exclude_patterns = ["zh", "sphinx"]
source_suffix = {".md": "markdown"}

myst_heading_anchors = 4

html_theme = "furo"
html_title = "glmserve"
html_use_index = False
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_search_language = "zh" if CHINESE else "en"
templates_path = ["templates"]
html_static_path = ["static"]
html_css_files = ["site.css"]
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "sidebar/search.html",
        "sidebar/language.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}
