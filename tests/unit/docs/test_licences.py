"""What comes with glmserve comes under licences that were agreed to, and the page of them is true."""

import re
from pathlib import Path

from docs.generate.licences_page import licence_of, licences, licences_page

ROOT = Path(__file__).parents[3]
AGREED = {
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "MPL-2.0", "PSF-2.0", "Unlicense",
    "Zlib",
}  # fmt: skip
"""None of them asks anything of who runs or changes the server itself."""


def test_every_locked_package_has_a_licence_that_was_agreed_to() -> None:
    foreign = {
        package: licence
        for package, licence in licences(ROOT / "requirements" / "run.txt").items()
        if not licence or set(re.findall(r"[\w.-]+", licence)) - {"AND", "OR"} - AGREED
    }
    assert not foreign, "look at the licence; then list it as agreed to, or leave the package out"


def test_the_page_is_made_from_the_packages() -> None:
    page = ROOT / "docs" / "licences.md"
    assert page.read_text("utf-8") == licences_page(ROOT / "requirements" / "run.txt"), "make docs writes it anew"


def test_what_is_not_installed_has_no_licence() -> None:
    assert licence_of("no-such-package") == ""
