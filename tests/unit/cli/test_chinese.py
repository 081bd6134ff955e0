"""The commands speak Chinese where the locale does, and every text that they have is translated."""

import ast
import re
import string
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from rich.cells import cell_len

from glmserve import cli
from glmserve.cli.chinese import COMMANDS, say, translated, wrapped
from glmserve.cli.main import main
from glmserve.cli.phrases import SAID
from glmserve.cli.run_server import Access, Announced, ready_banner
from glmserve.config.chinese import MODEL_KEYS, SETTINGS, VARIANT_KEYS, speaks_chinese
from glmserve.config.schema import FLAGS, SHARED, ModelSettings, VariantSettings

NAMES = main.list_commands(click.Context(main))
CHINESE = {"LC_ALL": "zh_CN.UTF-8", "COLUMNS": "80"}
ENGLISH = {"LC_ALL": "en_US.UTF-8", "COLUMNS": "80"}


@pytest.mark.parametrize(
    ("environ", "chinese_one"),
    [
        ({"LANG": "zh_CN.UTF-8"}, True), ({"LANG": "zh_TW"}, True), ({"LANG": "C"}, False), ({}, False),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C.UTF-8"}, False), ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "zh_CN"}, True),
        ({"LC_ALL": "", "LANG": "zh_CN"}, True),
    ],
)  # fmt: skip
def test_the_language_is_that_of_the_locale(environ: dict[str, str], chinese_one: bool) -> None:
    assert speaks_chinese(environ) is chinese_one


def test_every_setting_has_a_description() -> None:
    assert set(SETTINGS) == set(FLAGS)
    assert set(MODEL_KEYS) == set(ModelSettings.model_fields) - SHARED
    assert set(VARIANT_KEYS) == set(VariantSettings.model_fields)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_and_option_is_translated(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert name in COMMANDS
    for option in command.params:
        if isinstance(option, click.Option) and option.help:
            shown = translated(option.name or "", option.help)
            assert shown != option.help, option.help
            # Only names, values and addresses stay as they are.
            left = re.sub(r"\[[A-Z_]+\]|[A-Z]+[=:_A-Z]*|https?://\S+|[a-z_./]+\.(toml|gguf|dat|bin)|`[^`]*`", "", shown)
            assert not re.search(r"[a-z]+ [a-z]+ [a-z]+", left), shown


@pytest.mark.parametrize("name", ["", *NAMES])
def test_help_is_in_one_language_and_no_line_is_too_wide_or_cut_off(name: str) -> None:
    page = CliRunner().invoke(main, [*filter(None, [name]), "--help"], env=CHINESE).output
    assert page.startswith("用法：")
    assert "Options" not in page
    assert "Show this message" not in page
    assert [line for line in page.splitlines() if cell_len(line) > 80 and "|" not in line] == []
    assert "..." not in page.replace("[ARGS]...", "").replace("[MODEL]...", "")


def test_the_help_of_all_commands_fits_a_screen_in_both_languages() -> None:
    for environ in (CHINESE, ENGLISH):
        page = CliRunner().invoke(main, ["--help"], env=environ).output
        assert len(page.splitlines()) <= 24
        assert "..." not in page.replace("[ARGS]...", "")


def test_the_banner_is_in_chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    banner = ready_banner(
        "http://127.0.0.1:8000", [Announced("glm", "chatglm2", "CPU")], Access(lan_url="http://10.0.0.5:8000")
    )
    assert banner.startswith("glm 已就绪：http://127.0.0.1:8000\n")
    assert "其他机器的访问地址：http://10.0.0.5:8000，能连到的人都可以用：没有设 API 密钥（--api-key-file）" in banner
    assert banner.endswith("按 Ctrl-C 停止服务。")
    monkeypatch.setenv("LC_ALL", "C")
    assert ready_banner("http://x", [Announced("glm", "chatglm2", "CPU")]).startswith("glm is ready on http://x\n")


@pytest.mark.parametrize("text", SAID)
def test_both_languages_have_the_same_values(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = sorted(name for _, name, _, _ in string.Formatter().parse(text) if name)
    assert sorted(name for _, name, _, _ in string.Formatter().parse(SAID[text]) if name) == names
    monkeypatch.setenv("LC_ALL", "zh_CN")
    assert "12" in say(text, **dict.fromkeys(names, "12")) or not names


def test_every_phrase_that_a_command_says_is_translated() -> None:
    said = {
        call.args[0].value
        for file in Path(cli.__file__).parent.rglob("*.py")
        for call in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "say"
        if isinstance(call.args[0], ast.Constant)
    }
    assert said - set(SAID) == set()


def test_the_list_of_commands_needs_no_heavy_library() -> None:
    """It is what Tab and a first look ask for, and Ctrl-C meanwhile should show no traceback."""
    heavy = "{'pydantic', 'numpy', 'fastapi', 'rich'}"
    script = f"import sys, glmserve.cli.main; sys.exit(not {heavy}.isdisjoint(sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_lines_are_broken_by_their_width() -> None:
    assert wrapped("一二三四五，六七", 10) == "一二三四五，\n六七"
    assert wrapped("用 --quant q4_k_m 转换", 12) == "用 --quant\nq4_k_m 转换"
    assert all(cell_len(line) <= 40 for line in wrapped("中文 and English 混排的一段文字，" * 9, 38).splitlines())
