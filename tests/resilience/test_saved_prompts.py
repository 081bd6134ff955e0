"""A conversation outlives the server that was killed, its update and the unloading of its model."""

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from tests.conftest import running_server

FLAGS = ("--context", "1024", "--threads", "1")
QUESTION = [{"role": "user", "content": "请记住：" + "、".join(f"第{i}号是{i * 7 % 50}" for i in range(40))}]


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.02)


def _ask(url: str, messages: list[dict[str, str]], key: str = "") -> tuple[str, int, int]:
    body = {"messages": messages, "max_tokens": 12, "temperature": 0}
    headers = {"authorization": f"Bearer {key}"} if key else {}
    reply = httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=60).raise_for_status().json()
    usage = reply["usage"]
    text = reply["choices"][0]["message"]["content"]
    return text, usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]


def _saved(folder: Path) -> list[Path]:
    return sorted((folder / "cache" / "prompts").glob("*.prompt"))


def test_a_conversation_goes_on_after_kill_9_for_its_caller_alone(tiny_gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("ann:ann-secret-key\nbob:bob-secret-key\n")
    flags = (*FLAGS, "--api-key-file", str(tmp_path / "keys"))
    with running_server(str(tiny_gguf), *flags, log=tmp_path / "first") as (url, process):
        text, length, _ = _ask(url, QUESTION, "ann-secret-key")
        _until(lambda: len(_saved(tmp_path)) == 1)
        process.send_signal(signal.SIGKILL)
        process.wait()
    (file,) = _saved(tmp_path)
    assert (stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(file.parent.stat().st_mode)) == (0o600, 0o700)
    more = [*QUESTION, {"role": "assistant", "content": text}, {"role": "user", "content": "继续"}]
    with running_server(str(tiny_gguf), *flags, log=tmp_path / "second") as (url, _):
        assert _ask(url, more, "bob-secret-key")[2] == 0
        assert _ask(url, more, "ann-secret-key")[2] >= length - 1


def test_a_model_that_was_unloaded_finds_its_prompts_until_they_are_cleared(tiny_gguf: Path, tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("glmserve")), "cache", "--cache-dir", str(tmp_path / "cache")]

    def printed(*arguments: str) -> str:
        environment = {**os.environ, "LC_ALL": "C"}
        return subprocess.run([*command, *arguments], check=True, stdout=-1, text=True, env=environment).stdout

    with running_server(str(tiny_gguf), *FLAGS, "--idle-seconds", "0.3", log=tmp_path / "log") as (url, _):

        def ask_and_unload() -> int:
            before = (tmp_path / "log").read_text().count("was unloaded")
            cached = _ask(url, QUESTION)[2]
            _until(lambda: (tmp_path / "log").read_text().count("was unloaded") > before)
            return cached

        assert ask_and_unload() == 0
        assert f"{tmp_path / 'cache' / 'prompts'}: 1, " in printed()
        assert ask_and_unload() > 100
        assert printed("clear") == "removed 1 saved prompts\n"
        assert ask_and_unload() == 0
