"""The log of a real server for programs: every line an object, the engine's too, and no word of anybody's."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests.conftest import running_server
from tests.support.processes import engine_pid

SECRET = "昨天的晚饭很好吃 zebra-crossing"


def test_every_line_is_json_and_none_has_the_text_of_a_prompt_or_an_answer(tmp_path: Path) -> None:
    log = tmp_path / "log"
    flags = ("--cache-dir", str(tmp_path), "--log-format", "json", "--log-level", "debug", "--access-log")
    with running_server(*flags, log=log) as (url, process), httpx.Client(base_url=url) as http:
        answers = ask_in_every_way(http)
        os.kill(engine_pid(process.pid), signal.SIGKILL)
        wait_for(log, "the engine process of")
        wait_for(log, "was loaded", times=2)
    text = log.read_text("utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    assert {"glmserve.engine.llama_cpp", "uvicorn.error", "glmserve.http.middleware.request_log"} <= {
        line["logger"] for line in lines
    }
    (model,) = (tmp_path / "converted").iterdir()
    assert model.name in {line.get("engine") for line in lines if line["logger"] == "glmserve.engine.llama_cpp"}
    assert [line["request_id"] for line in lines if line.get("path") == "/v1/messages"] == ["from-claude"]
    for word in (SECRET, SECRET[:6], "zebra", json.dumps(SECRET)[1:20], *answers):
        assert word not in text, word


def ask_in_every_way(http: httpx.Client) -> list[str]:
    """Ask so that every dialect and every kind of error has its turn; return the answers."""
    messages = [{"role": "user", "content": SECRET}]
    chat = http.post("/v1/chat/completions", json={"messages": messages, "max_tokens": 20}, timeout=60)
    assert chat.status_code == 200, chat.text
    http.post("/v1/chat/completions", json={"messages": messages, "max_tokens": 20, "stream": True}, timeout=60)
    http.post("/v1/chat/completions", json={"messages": messages, "max_tokens": SECRET})
    http.post("/v1/chat/completions", json={"messages": messages, "guided_grammar": SECRET})
    http.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": SECRET * 3000}]})
    http.post("/v1/chat/completions", content=SECRET.encode())
    http.post("/v1/responses", json={"input": SECRET, "max_output_tokens": 20}, timeout=60)
    headers = {"X-Request-Id": "from-claude"}
    http.post("/v1/messages", json={"model": "x", "messages": messages, "max_tokens": 9}, headers=headers, timeout=60)
    legacy = http.post("/chatglm", json={"prompt": SECRET, "max_length": 400}, timeout=60)
    http.post("/v1/completions", json={"model": "chatglm2-tiny", "prompt": SECRET, "max_tokens": 9}, timeout=60)
    http.post("/v1/embeddings", json={"input": SECRET})
    http.get("/v1/models", params={"q": SECRET})
    return [
        text for text in (chat.json()["choices"][0]["message"]["content"], legacy.json()["response"]) if len(text) > 3
    ]


def wait_for(log: Path, text: str, times: int = 1) -> None:
    deadline = time.monotonic() + 30
    while log.read_text("utf-8").count(text) < times:
        assert time.monotonic() < deadline, log.read_text("utf-8")
        time.sleep(0.05)


def test_what_keeps_the_server_from_starting_is_a_line_of_json_too(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("glmserve")), "serve", "--log-format", "json", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    (line,) = map(json.loads, done.stderr.splitlines())
    assert (done.returncode, line["level"], done.stdout) == (2, "critical", "")
    assert "no such file or folder" in line["message"]
