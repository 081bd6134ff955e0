"""``glmserve batch`` and ``glmserve task --lines`` against the application on a scripted engine."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from glmserve.batches.service import BatchOptions
from glmserve.bootstrap.app import ApiOptions
from glmserve.chat.tasks.task import Task, Variable
from glmserve.cli import batch as batch_command
from glmserve.cli.main import main
from tests.support.api import MODEL, make_app, serve
from tests.support.scripted_engine import ScriptedEngine

TASK = Task("ask", "{{tone}}：{{text}}", notes={"tone": Variable("tone", default="好"), "text": Variable("text")})


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture
def url(engine: ScriptedEngine, tmp_path: Path) -> Iterator[str]:
    options = ApiOptions(tasks={"ask": TASK}, batches=BatchOptions(tmp_path / "kept"))
    with serve(make_app(engine, options)) as address:
        yield address


def call(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(main, arguments, input=text)


def line(number: int, **body: object) -> str:
    asked = {"model": MODEL, "messages": [{"role": "user", "content": f"q{number}"}], **body}
    return json.dumps({"custom_id": f"{number}", "method": "POST", "url": "/v1/chat/completions", "body": asked})


def test_each_line_of_a_task_has_its_answer_in_order(url: str, engine: ScriptedEngine) -> None:
    lines = [json.dumps("一"), json.dumps({"text": "二", "tone": "坏", "id": 7}), "", json.dumps("三\n四")]
    done = call("task", "ask", "--lines", "--url", url, text="\n".join(lines))
    assert done.exit_code == 0, done.output
    assert [json.loads(text) for text in done.stdout.splitlines()] == [
        {"input": "一", "answer": "你问的是：好：一"},
        {"input": {"text": "二", "tone": "坏", "id": 7}, "answer": "你问的是：坏：二"},
        {"input": "三\n四", "answer": "你问的是：好：三\n四"},
    ]
    asked = len(engine.submissions)
    again = call("task", "ask", "--lines", "--url", url, text="\n".join(lines))
    assert again.stdout == done.stdout
    assert "continuing batch_" in again.stderr
    assert len(engine.submissions) == asked
    assert call("task", "ask", "--lines", "--again", "--url", url, text="\n".join(lines)).exit_code == 0
    assert len(engine.submissions) == 2 * asked


@pytest.mark.parametrize(
    ("text", "told"),
    [("oops", "line 1 is not JSON"), ('"a"\n{"tone": "x"}', "line 2 has no text"), ('{"text": 1}', "must be a string")],
)
def test_a_line_that_is_no_input_is_told_before_anything_is_sent(
    url: str, engine: ScriptedEngine, text: str, told: str
) -> None:
    done = call("task", "ask", "--lines", "--url", url, text=text)
    assert done.exit_code == 2
    assert told in done.stderr
    assert not engine.submissions


def test_a_file_is_answered_into_two_files(url: str, tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text("\n".join([line(1), line(2, temperature=9), line(3)]))
    done = call("batch", str(file), "--url", url)
    assert done.exit_code == 1
    assert "2 answered, 1 failed, of 3" in done.stderr
    answers = [json.loads(text) for text in (tmp_path / "in.output.jsonl").read_text("utf-8").splitlines()]
    assert [one["custom_id"] for one in answers] == ["1", "3"]
    (failed,) = (json.loads(text) for text in (tmp_path / "in.errors.jsonl").read_text("utf-8").splitlines())
    assert failed["custom_id"] == "2"
    assert not list(tmp_path.glob(".in*"))
    refused = call("batch", str(file), "--url", url)
    assert refused.exit_code == 2
    assert "give --force" in refused.stderr
    assert "continuing" in call("batch", str(file), "--url", url, "--force").stderr
    printed = call("batch", str(file), "--url", url, "-o", "-", "--force")
    assert [json.loads(text)["custom_id"] for text in printed.stdout.splitlines()] == ["1", "3"]


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_only_an_earlier_output_is_replaced_and_what_cannot_be_written_is_told_before_the_work(
    url: str, engine: ScriptedEngine, tmp_path: Path, force: tuple[str, ...]
) -> None:
    file = tmp_path / "in.errors.jsonl"
    file.write_text(line(1))
    (tmp_path / "kept.jsonl").write_text("kept")
    (tmp_path / "link").symlink_to("kept.jsonl")
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    for name, told in {
        "in.errors.jsonl": "is the input",
        "in.jsonl": "in.errors.jsonl is the input",
        "link": "is a symbolic link to kept.jsonl",
        "dangling": "is a symbolic link to nowhere",
        "pipe": "is a named pipe",
        "nowhere/out": "nowhere is not a folder; create it first",
        "new/": "the folder does not exist; create it first",
        "kept.jsonl/out": "kept.jsonl/out cannot be written: Not a directory",
    }.items():
        before = sorted((path, path.lstat().st_mode) for path in tmp_path.iterdir())
        refused = call("batch", str(file), "--url", url, "-o", f"{tmp_path}/{name}", *force)
        assert refused.exit_code == 2, refused.output
        assert told in refused.stderr
        assert sorted((path, path.lstat().st_mode) for path in tmp_path.iterdir()) == before
    assert not engine.submissions
    assert (tmp_path / "kept.jsonl").read_text() == "kept"
    assert file.read_text() == line(1)


def test_a_folder_gets_the_usual_name_and_the_null_device_stays_one(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text("\n".join([line(1), line(2, temperature=9)]))
    (tmp_path / "sub").mkdir()
    call("batch", str(file), "--url", url, "-o", f"{tmp_path}/sub/")
    assert sorted(path.name for path in (tmp_path / "sub").iterdir()) == ["in.errors.jsonl", "in.output.jsonl"]
    assert (tmp_path / "sub" / "in.output.jsonl").stat().st_mode & 0o777 == 0o666 & ~umask()
    monkeypatch.chdir(tmp_path / "sub")
    assert "in.output.jsonl exists" in call("batch", str(file), "--url", url, "-o", ".").stderr
    for _ in range(2):
        timed = call("batch", str(file), "--url", url, "-o", os.devnull, "--force")
        assert "1 answered, 1 failed" in timed.stderr
    assert Path(os.devnull).is_char_device()
    assert (tmp_path / "in.errors.jsonl").exists()


def test_errors_of_an_earlier_call_do_not_stay_beside_its_output(url: str, tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text(line(1, temperature=9))
    call("batch", str(file), "--url", url)
    assert (tmp_path / "in.errors.jsonl").exists()
    file.write_text(line(1))
    assert call("batch", str(file), "--url", url, "--force").exit_code == 0
    assert not (tmp_path / "in.errors.jsonl").exists()


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_an_interrupted_command_leaves_its_batch_running(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text(line(1))

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", interrupt)
        stopped = call("batch", str(file), "--url", url)
    assert stopped.exit_code == 130
    assert "continues on the server" in stopped.stderr
    assert not (tmp_path / "in.output.jsonl").exists()
    done = call("batch", str(file), "--url", url)
    assert done.exit_code == 0, done.stderr
    assert "continuing batch_" in done.stderr


def test_a_batch_is_cancelled_by_its_file(url: str, engine: ScriptedEngine, tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text(line(1))
    assert "no batch of this input is running" in call("batch", str(file), "--url", url, "--cancel").stderr
    engine.endless = True
    engine.step_seconds = 0.05
    with closing(batch_command.BatchClient(url, "")) as client:
        client.create("in.jsonl", file.read_bytes(), "/v1/chat/completions", "24h")
    assert "is being cancelled" in call("batch", str(file), "--url", url, "--cancel").stderr


def test_faults_of_the_input_are_told_by_line(url: str, tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text(f"{line(1)}\n{line(1)}\n")
    done = call("batch", str(file), "--url", url)
    assert done.exit_code == 1
    assert "line 2: custom_id is the one of line 1" in done.stderr
    file.write_text("hello")
    assert call("batch", str(file), "--url", url).exit_code == 2


def test_a_server_without_batches_is_told(engine: ScriptedEngine, tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text(line(1))
    with serve(make_app(engine, ApiOptions())) as address:
        done = call("batch", str(file), "--url", address)
    assert done.exit_code == 1
    assert "HTTP 404" in done.stderr


def test_a_batch_is_told_in_chinese(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    file = tmp_path / "in.jsonl"
    file.write_text("\n".join([line(1), line(2, temperature=9)]))
    done = call("batch", str(file), "--url", url)
    assert "已完成：共 2 行，已回答 1 行，失败 1 行" in done.stderr
    assert "错误：有些行没有回答，见" in done.stderr
    assert "已存在；请删除它，或加上 --force" in call("batch", str(file), "--url", url).stderr
    assert "这个输入已有的批量任务" in call("batch", str(file), "--url", url, "--force").stderr
    assert "这个输入没有正在运行的批量任务" in call("batch", str(file), "--url", url, "--cancel").stderr
