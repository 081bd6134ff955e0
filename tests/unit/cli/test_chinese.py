"""The commands speak Chinese where the locale does, and every text that they have is translated."""

import ast
import json
import re
import string
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from rich.cells import cell_len

from glmserve import cli
from glmserve.batches.input_lines import InputCheck
from glmserve.cli.banner import Access, Announced, announced, ready_banner
from glmserve.cli.main import main
from glmserve.cli.texts.chinese import COMMANDS, say, translated, wrapped
from glmserve.cli.texts.chinese_errors import ERRORS, in_chinese
from glmserve.cli.texts.phrases import SAID
from glmserve.config.chinese import ADAPTER_KEYS, MODEL_KEYS, SETTINGS, speaks_chinese
from glmserve.config.schema import FLAGS, OF_CLUSTER, SHARED, AdapterSettings, ModelSettings
from glmserve.engine.interface import EngineState
from glmserve.model_pool.host import ModelHost
from glmserve.model_pool.served_model import ModelCard, ServedModel
from tests.support.byte_pairs import byte_pairs, tokenizer_json
from tests.support.encoders import random_encoder, write_encoder
from tests.support.glm_checkpoint import GLM4, make_glm_weights, write_glm_checkpoint
from tests.support.minimal_gguf import write_gguf
from tests.support.scripted_engine import ByteTokenizer, ScriptedEngine

NAMES = main.list_commands(click.Context(main))
SOURCES = re.sub(
    r'"\n\s*f?"',
    "",
    "".join(
        path.read_text("utf-8")
        for folder in ("server", "convert", "models")
        for path in (Path(__file__).parents[3] / folder).rglob("*.py")
        if not path.name.startswith("chinese_")
    ),
)
"""With the texts of several lines in one."""
YARN = replace(GLM4, yarn=4.0, context=1024)
TOKENIZER = json.dumps(tokenizer_json(byte_pairs(440)), ensure_ascii=False)
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
    assert set(ADAPTER_KEYS) == set(AdapterSettings.model_fields)


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
    page = CliRunner().invoke(main, [name, "--help-all"] if name else ["--help"], env=CHINESE).output
    assert page.startswith("用法：")
    assert "Options" not in page
    assert "Show this message" not in page
    assert [line for line in page.splitlines() if cell_len(line) > 80] == []
    assert "..." not in page.replace("[ARGS]...", "").replace("[MODEL]...", "")


@pytest.mark.parametrize("name", ["", *NAMES])
@pytest.mark.parametrize("environ", [CHINESE, ENGLISH], ids=["zh", "en"])
def test_help_fits_a_screen_in_both_languages(name: str, environ: dict[str, str]) -> None:
    page = CliRunner().invoke(main, [*filter(None, [name]), "--help"], env=environ).output
    assert len(page.splitlines()) < 24, "the prompt needs a line, too"
    assert max(map(cell_len, page.splitlines())) <= 80
    assert "..." not in page.replace("[ARGS]...", "").replace("[MODEL]...", "")


@pytest.mark.parametrize("environ", [CHINESE, ENGLISH], ids=["zh", "en"])
@pytest.mark.parametrize("flag", ["--help", "--help-all"])
@pytest.mark.parametrize("columns", [80, 60, 40])
def test_help_is_cut_off_in_no_window(flag: str, columns: int, environ: dict[str, str]) -> None:
    """A command to copy stays in one line all the same."""
    for name in NAMES:
        done = CliRunner().invoke(main, [name, flag], env={**environ, "COLUMNS": str(columns)})
        wide = [line for line in done.output.splitlines() if cell_len(line) > columns]
        assert [line for line in wide if not (columns == 40 and line.startswith("  glmserve "))] == [], name


def test_the_short_help_has_the_common_settings_and_the_long_one_all() -> None:
    short, full = (CliRunner().invoke(main, ["serve", flag], env=ENGLISH).output for flag in ("-h", "--help-all"))
    assert "  --port INTEGER       Port to listen on; 0 chooses a free port.  [8000]\n" in short
    assert "--step-timeout" not in short
    assert all(f"--{name.replace('_', '-')}" in full for name in FLAGS if name not in ("model", "hub", *OF_CLUSTER))
    assert re.findall(r"all (\d+) options", short) == [str(len(re.findall(r"^  -", full, re.MULTILINE)))]


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


def test_the_banner_says_in_chinese_what_the_engine_runs_on(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ScriptedEngine()
    engine.starts, engine.state = 1, EngineState.READY
    on_cpu = replace(engine.info, device="CPU, 2 threads", embedding_size=0)
    monkeypatch.setattr(ScriptedEngine, "info", property(lambda _: on_cpu))
    model = ServedModel(ModelCard("glm", 0), ModelHost(engine, ByteTokenizer))
    model.host._life.loaded(0.0)
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    assert announced(model).note.startswith("CPU，2 个线程；最多同时 ")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("serve nix", "nix：没有这个文件或目录，也不是已知模型的名字；请写 .gguf 文件、检查点目录，不写则用内置模型"),
        ("serve chatglm2-6b", "本机没有 chatglm2-6b；用 glmserve pull chatglm2-6b 下载"),
        ("serve --port x", "--port：必须是整数，不能是 'x'"),
        ("serve --port 65536", "--port：不能大于 65535，写的是 '65536'"),
        ("serve --cache-tokens -3", "--cache-tokens：不能小于 0，写的是 '-3'"),
        ("serve --load never", "'--load' 的值不对：'never' 不是 'start', 'first_use' 之一。"),
        ("serve --lora x", "x：没有这个文件；适配器 x 需要它"),
        ("serve --config nix.toml", "nix.toml：不能读取（没有这个文件）"),
        ("serve --prot 3", "没有选项 '--prot'；"),
        ("serve --port", "选项 '--port' 需要一个值。"),
        ("serve . --model-name a --host 192.0.2.1", "不能监听 192.0.2.1 的端口 8000：本机没有这个地址"),
        ("inspect", "缺少参数 'MODEL'。"),
        (
            "inspect text.gguf",
            "text.gguf：不是可读的 GGUF 文件（是 text，不是模型；开头是 'text'）；请重新下载这个文件",
        ),
        ("list x", "多余的参数（x）"),
        ("nix", "没有命令 'nix'。"),
        ("task", "请写 TASK；glmserve task --list 列出任务"),
        ("pull nix", "nix 不是已知模型；请写仓库的 OWNER/NAME，或其中之一："),
        ("chat --url http://127.0.0.1:9", "http://127.0.0.1:9 没有服务应答（拒绝连接）；用 glmserve serve 启动一个"),
        ("task review --check --min-accuracy 2", "'--min-accuracy' 的值不对：2.0 不在 0<=x<=1 之内。"),
    ],
)
def test_errors_at_the_start_are_in_chinese(
    arguments: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.gguf").write_text("text")
    result = CliRunner().invoke(main, arguments.split(), env={**CHINESE, "GLMSERVE_CACHE_DIR": str(tmp_path)})
    assert result.exit_code in (1, 2)
    assert told in result.output


def test_an_error_without_a_translation_stays_as_it_is() -> None:
    assert in_chinese("something else\nnix: there is no such file") == "something else\nnix：没有这个文件"


def _said_in(node: ast.AST) -> str:
    """The text of a string, with 7 for each value in it; empty for anything else."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "7" for part in node.values)
    return str(node.value) if isinstance(node, ast.Constant) else ""


RAISED = [
    text
    for path in sorted(Path(cli.__file__).parent.rglob("*.py"))
    for node in ast.walk(ast.parse(path.read_text("utf-8")))
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args
    if ast.unparse(node.exc.func).rpartition(".")[2] in ("UsageProblem", "ServerCallError", "ClickException")
    if re.search(r"[a-z]{2} [a-z]{2}", text := _said_in(node.exc.args[0]))
]
"""Messages that the commands themselves end with."""


def test_each_message_that_a_command_ends_with_is_translated() -> None:
    assert len(RAISED) > 30
    assert [text for text in RAISED if in_chinese(text) == text] == []


FAULTS = {
    '{"custom_id": "1", oops': "第 2 行：不是有效的 JSON：",
    "[]": "第 2 行：必须是 JSON 对象，不能是 an array",
    '{"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {}}': (
        "第 2 行：custom_id 与第 1 行相同；每行要有自己的 custom_id"
    ),
    '{"custom_id": "2", "method": "GET"}': "第 2 行：method 必须是 POST",
    '{"custom_id": "2", "method": "POST", "url": "/v1/nope"}': "第 2 行：url 是 '/v1/nope'，必须是批量任务的 endpoint",
    '{"custom_id": "2", "method": "POST", "url": "/v1/chat/completions"}': "第 2 行：body 必须是对象",
    '{"custom_id": ""}': "第 2 行：custom_id 必须是 1 到 ",
    '"' + "x" * 2000 + '"': "第 2 行：超过 1000 字节",
}


@pytest.mark.parametrize("line", FAULTS, ids=range(len(FAULTS)))
def test_faults_of_the_lines_of_a_batch_are_in_chinese(line: str) -> None:
    good = '{"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {}}'
    check = InputCheck("/v1/chat/completions", 1000)
    check.feed(f"{good}\n{line}\n".encode())
    check.finish()
    (problem,) = check.problems
    told = in_chinese(f"the input has faults:\n  line {problem.line}: {problem.message}")
    assert told.startswith(f"输入有错误：\n  {FAULTS[line]}"), told


@pytest.mark.parametrize("text", ERRORS)
def test_a_translated_error_is_one_that_there_is(text: str) -> None:
    """By its longest part without names, in the sources or in the libraries that say it."""
    longest = max(re.split(r"\{\w+\}|; |: | of | as ", text), key=len).strip()
    assert longest in SOURCES or text.startswith(
        ("{setting}: Input should be", "No such", "Invalid", "Got", "Option", "Missing")
    )
    names = sorted(re.findall(r"\{(\w+)\}", text))
    assert set(re.findall(r"\{(\w+)\}", ERRORS[text])) <= set(names)


@pytest.mark.parametrize("command", ["doctor --no-self-test", "inspect --no-run chatglm2-tiny", "list"])
def test_tables_are_in_chinese(command: str, tmp_path: Path) -> None:
    write_gguf(tmp_path / "some.f32.gguf", "chatglm")
    page = CliRunner().invoke(main, command.split(), env={**CHINESE, "GLMSERVE_CACHE_DIR": str(tmp_path)}).stdout
    names = [re.split(r"  +", line.strip())[0] for line in page.splitlines() if line.strip()]
    kept = {"glmserve", "Python", "llama-cpp-python", "llama.cpp", "some"}
    assert [name for name in names if name not in kept and re.fullmatch(r"[a-z ]+", name, re.IGNORECASE)] == []


def test_what_a_conversion_decided_is_in_chinese(tmp_path: Path) -> None:
    """Of each family that is converted: nothing of the report but names is English."""
    made = {
        "glm": write_glm_checkpoint(tmp_path / "glm", YARN, make_glm_weights(YARN, 1), TOKENIZER),
        "m3e": write_encoder(tmp_path / "m3e", random_encoder("bert", normalize=False)),
        "bge-m3": write_encoder(tmp_path / "bge-m3", random_encoder("xlm-roberta", "cls")),
        "reranker": write_encoder(tmp_path / "reranker", random_encoder("xlm-roberta", "rank")),
        "text2vec": write_encoder(tmp_path / "text2vec", random_encoder("bert")),
        "chatglm2-tiny": "chatglm2-tiny",
    }
    for name in ("modules.json", "1_Pooling/config.json"):
        (tmp_path / "text2vec" / name).unlink()
    environ = {**CHINESE, "GLMSERVE_CACHE_DIR": str(tmp_path / "cache")}
    for model in made.values():
        page = CliRunner().invoke(main, ["inspect", "--no-run", str(model)], env=environ).stdout
        notes = [line.removeprefix("说明：") for line in page.splitlines() if line.startswith("说明：")]
        assert len(notes) > 1, page
        assert [note for note in notes if re.search(r"[A-Za-z]+ [A-Za-z]+ [A-Za-z]+", note)] == []


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
    assert wrapped("一二三四五，六七", 10) == "一二三四\n五，六七"
    assert wrapped("用 --quant q4_k_m 转换", 12) == "用 --quant\nq4_k_m 转换"
    assert all(cell_len(line) <= 40 for line in wrapped("中文 and English 混排的一段文字，" * 9, 38).splitlines())
