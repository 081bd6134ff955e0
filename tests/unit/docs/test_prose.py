"""The prose linter: each kind of finding, on pages and on code, and what it leaves alone."""

from pathlib import Path

import pytest

from docs.prose.lint import CODE, check, default_files, load_rules


def messages(path: Path, text: str) -> list[str]:
    path.write_text(text, "utf-8")
    return [f"{found.line}: {message}" for found, message in check([path])]


@pytest.mark.parametrize(
    "sentence",
    [
        "A request that the door let in waits.",
        "Nobody reads this.",
        "Whoever sends it waits.",
        "It keeps so many of them.",
        "A response that can be gone on from.",
        "Those that wait are served.",
        "What the engine computed before stays.",
        "This field is honoured.",
        "The request is refused.",
        "It takes some 20 ms.",
        "A client and his key.",
        "A variant of the model answers.",
        "The pacer sizes it.",
        " ".join(["word"] * 29) + ".",
    ],
)
def test_a_sentence_that_breaks_a_rule_is_found_with_its_line(tmp_path: Path, sentence: str) -> None:
    (found,) = messages(tmp_path / "page.md", f"# Title\n\nA request waits.\n\n{sentence}\n")
    assert found.startswith("5: ")


@pytest.mark.parametrize(
    "text",
    [
        "The flag `--refuse-nobody` exists.",
        "```console\nwhoever --refused\n```",
        "# What is it?",
        "What is the longest prompt that a model accepts?",
        "- What to change for a GPU and for a CPU.",
        f"{' '.join(['word'] * 20)} `{' '.join(['code'] * 20)}`: {' '.join(['word'] * 28)}.",
        "The 2.5 MB/s of 10,000 requests.",
    ],
)
def test_code_questions_and_short_sentences_are_left_alone(tmp_path: Path, text: str) -> None:
    assert messages(tmp_path / "page.md", text) == []


def test_table_cells_are_sentences_of_their_own(tmp_path: Path) -> None:
    table = f"| a | b |\n|---|---|\n| {' '.join(['word'] * 20)} | {' '.join(['word'] * 20)} |\n| nobody | – |\n"
    (found,) = messages(tmp_path / "page.md", table)
    assert found.startswith("4: ")


def test_docstrings_and_help_texts_of_code_are_read(tmp_path: Path) -> None:
    code = '''"""Whoever asks.

Nobody reads details.
"""

def options(help=""):
    """Return `nobody`.

    The details may say those that are meant, and what a word means in 29 words or more, as a list of arguments does,
    for each argument that there is, and for each error that is raised.
    """

options(help="Requests that are refused")
options(description="so many")
limit = 1
"""Nobody has more."""
'''
    found = messages(tmp_path / "module.py", code)
    assert sorted(int(message.split(":")[0]) for message in found) == [1, 1, 13, 14, 16]


@pytest.mark.parametrize(
    "summary",
    [
        "Return what follows.",
        "The tokens of those below.",
        "A thing; nobody reads it.",
        "The rest of those that wait.",
        "What the engine has computed before.",
        "Load the backend.",
        "Return an identity.",
        "Forget a file.",
    ],
)
def test_a_summary_names_its_noun(tmp_path: Path, summary: str) -> None:
    code = f'"""Reads a file."""\n\n\ndef read():\n    """{summary}\n\n    Details may say what they mean.\n    """\n'
    (found,) = messages(tmp_path / "module.py", code)
    assert found.startswith("4: ")


def test_a_page_may_ask_what_something_is(tmp_path: Path) -> None:
    assert messages(tmp_path / "page.md", "The report tells what a file is.\n") == []


def test_a_chinese_page_has_the_words_of_the_glossary(tmp_path: Path) -> None:
    (tmp_path / "zh").mkdir()
    (found,) = messages(tmp_path / "zh" / "page.md", "模型的令牌。\n\nNobody reads whoever.\n")
    assert found == '1: "令牌": token'


def test_every_page_and_module_is_checked() -> None:
    files = {path.relative_to(Path(__file__).parents[3]).as_posix() for path in default_files()}
    assert {"README.md", "README.zh.md", "docs/api.md", "docs/zh/api.md"} <= files
    modules = [file for file in files if file.endswith(".py")]
    assert all(any(file.startswith(f"{folder}/") for file in modules) for folder in CODE)
    assert {"bench/tables.py", "docs/generate/errors_page.py"} <= files


def test_each_rule_says_what_to_write() -> None:
    assert all(advice for rules in load_rules().values() for advice in rules.patterns.values())
