"""Search in Chinese without a dictionary: text and queries are taken as pairs of neighbouring characters.

A page is found when it has every pair of the query, so that a word of any length is found wherever it stands, also
where a dictionary would have cut elsewhere. Sphinx's own Chinese search needs a segmenter that is no longer kept up.
"""

import re

from sphinx.application import Sphinx
from sphinx.search.en import SearchEnglish

_RUN = re.compile(r"([\u3400-\u9fff]+)|\w+", re.ASCII)


class SearchBigrams(SearchEnglish):
    """Latin words as in English; Chinese as single characters and pairs of them."""

    lang = "zh"
    # Sphinx names the stemmer that it puts into the page by this.
    language_name = "English"
    # A query of one character looks for that; of a longer run the pairs are enough.
    js_splitter_code = """
function splitQuery(query) {
  return [...query.matchAll(/[\\u3400-\\u9fff]+|[A-Za-z0-9_]+/g)].flatMap(([run]) =>
    run.length < 2 || !/[\\u3400-\\u9fff]/.test(run)
      ? [run]
      : [...run].slice(1).map((character, index) => run[index] + character));
}
"""

    def split(self, text: str) -> list[str]:
        """Return the terms of a text."""
        return [term for run in _RUN.finditer(text) for term in _terms(run)]


def _terms(run: re.Match[str]) -> list[str]:
    if not run[1]:
        return [run[0]]
    return [*run[1], *(run[1][at : at + 2] for at in range(len(run[1]) - 1))]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_search_language(SearchBigrams)
    return {"parallel_read_safe": True}
