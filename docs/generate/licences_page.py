"""``docs/licences.md``, made from the locked requirements and the metadata of their packages."""

import re
from collections.abc import Mapping
from importlib.metadata import PackageMetadata, PackageNotFoundError, metadata
from pathlib import Path

import click

_HEAD = """\
# Licences

<!-- Made by `make docs` from requirements/run.txt. -->

The Python packages that are installed with glmserve, and their licences. A test compares this list with the metadata
of the packages, and fails for a licence that is not approved (`tests/unit/docs/test_licences.py`). The chat page also
contains marked (MIT), DOMPurify (Apache-2.0 or MPL-2.0), KaTeX with its fonts (MIT) and highlight.js (BSD-3-Clause);
llama-cpp-python contains llama.cpp (MIT).

| package | licence |
| --- | --- |
"""

_LOCKED = re.compile(r"^([a-z0-9][a-z0-9.-]*)==", re.MULTILINE)

_SPELLINGS = {
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
"""As packages write what SPDX calls otherwise."""

_ELSEWHERE = {
    "colorama": "BSD-3-Clause",
    "exceptiongroup": "MIT",
    "httpx2-jsfetch": "BSD-3-Clause",
    "numpy": "BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0",
    "tomli": "MIT",
    "uvloop": "MIT OR Apache-2.0",
}
"""Of packages that only some systems or Pythons have, or of which not every version says it clearly."""


def locked_packages(requirements: Path) -> tuple[str, ...]:
    """Return the names in a lock file."""
    return tuple(sorted(set(_LOCKED.findall(requirements.read_text("utf-8")))))


def licence_of(package: str) -> str:
    """Return the licence of an installed package as an SPDX expression, or its own text; empty if there is none."""
    if package in _ELSEWHERE:
        return _ELSEWHERE[package]
    try:
        said = metadata(package)
    except PackageNotFoundError:
        return ""
    text = _first(said, "License-Expression") or _in_words(said)
    return _SPELLINGS.get(text, text)


def licences(requirements: Path) -> Mapping[str, str]:
    """Return the licences of all packages of a lock file."""
    return {package: licence_of(package) for package in locked_packages(requirements)}


def licences_page(requirements: Path) -> str:
    """Return the page."""
    rows = [f"| {package} | {licence} |\n" for package, licence in licences(requirements).items()]
    return _HEAD + "".join(rows)


def _first(said: PackageMetadata, key: str) -> str:
    return str((said.get_all(key) or [""])[0])


def _in_words(said: PackageMetadata) -> str:
    text = _first(said, "License")
    if 0 < len(text) <= 60 and "\n" not in text:
        return text
    classifiers = [str(one) for one in said.get_all("Classifier") or () if str(one).startswith("License ::")]
    return classifiers[0].rpartition(":: ")[2] if classifiers else ""


if __name__ == "__main__":
    click.echo(licences_page(Path("requirements/run.txt")), nl=False)
