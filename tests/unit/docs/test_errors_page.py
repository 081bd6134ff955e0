"""The catalogue of error codes is made from the table, and has each code that the server can send."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.generate.errors_page import ADVICE, SET_BY_CHECKS, errors_page
from glmserve.api.openai.chat_completions.protocol import parse_chat_request
from glmserve.http.error_replies import describe, table
from glmserve.http.errors import InvalidRequest

ROOT = Path(__file__).parents[3]


def codes_in(source: str) -> Iterator[str]:
    """Codes that are written into an error where it is raised or described."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.keyword) and node.arg == "code" and isinstance(node.value, ast.Constant):
            yield str(node.value.value)


def written_codes() -> set[str]:
    folders = (ROOT / "server" / "api", ROOT / "server" / "http", ROOT / "server" / "generation", ROOT / "compat")
    return {code for folder in folders for file in folder.rglob("*.py") for code in codes_in(file.read_text("utf-8"))}


def test_the_page_is_up_to_date() -> None:
    assert (ROOT / "docs" / "errors.md").read_text("utf-8") == errors_page(), "run make docs"


def test_each_code_that_is_sent_is_on_the_page_and_no_other() -> None:
    of_the_table = {code for _, code, _ in table().values()}
    assert "invalid_json" in written_codes()
    assert written_codes() <= of_the_table | SET_BY_CHECKS.keys()
    assert ADVICE.keys() == of_the_table | SET_BY_CHECKS.keys()


def test_a_code_has_one_status() -> None:
    statuses = {(code, status) for status, code, _ in table().values()} | set(SET_BY_CHECKS.items())
    assert len(statuses) == len({code for code, _ in statuses})


def test_the_example_is_what_the_server_sends() -> None:
    (example,) = re.findall(r"```json\n(.*?)```", errors_page(), re.DOTALL)
    with pytest.raises(InvalidRequest) as raised:
        parse_chat_request({"messages": [{"role": "user", "content": "hello"}], "temperature": -1})
    assert json.loads(example) == describe(raised.value).envelope()


def test_each_flag_that_is_named_is_one() -> None:
    settings = (ROOT / "docs" / "settings.md").read_text("utf-8")
    flags = re.findall(r"`(--[a-z-]+)`", errors_page())
    assert flags
    assert [flag for flag in flags if f"| `{flag}" not in settings] == []
