"""A batch on the embedded model: through kill -9 of the server, beside requests that do not wait for it."""

import json
import signal
import time
from pathlib import Path

import httpx

from tests.conftest import running_server

CHAT = "/v1/chat/completions"
LINES = 40


def line(number: int) -> str:
    messages = [{"role": "user", "content": f"第{number}次：{'质量很好，推荐！' if number % 2 else '再也不来了'}"}]
    body = {"model": "chatglm2-tiny:review", "messages": messages}
    return json.dumps({"custom_id": f"{number}", "method": "POST", "url": CHAT, "body": body})


def create(url: str, content: str) -> str:
    files = {"file": ("in.jsonl", content.encode())}
    file = httpx.post(f"{url}/v1/files", data={"purpose": "batch"}, files=files).raise_for_status().json()["id"]
    body = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"}
    return str(httpx.post(f"{url}/v1/batches", json=body).raise_for_status().json()["id"])


def wait(url: str, batch_id: str, done: int) -> dict[str, object]:
    """Wait until ``done`` lines are answered and, where that is all, the batch has ended."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        batch: dict[str, object] = httpx.get(f"{url}/v1/batches/{batch_id}", timeout=30).json()
        counts = batch["request_counts"]
        assert isinstance(counts, dict)
        if counts["completed"] >= done and (done < LINES or batch["status"] == "completed"):
            return batch
        time.sleep(0.02)
    raise TimeoutError(batch)


def test_a_batch_goes_on_after_kill_9_and_has_each_line_once(tiny_gguf: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running_server(str(tiny_gguf), log=log) as (url, process):
        batch_id = create(url, "\n".join(map(line, range(LINES))))
        wait(url, batch_id, 3)
        process.send_signal(signal.SIGKILL)
        process.wait()
    with running_server(str(tiny_gguf), log=log) as (url, _):
        batch = wait(url, batch_id, LINES)
        output = httpx.get(f"{url}/v1/files/{batch['output_file_id']}/content").text
        answers = [json.loads(text) for text in output.splitlines()]
        assert [one["custom_id"] for one in answers] == [str(number) for number in range(LINES)]
        texts = [one["response"]["body"]["choices"][0]["message"]["content"] for one in answers]
        assert set(texts) <= {"正面", "负面"}
        assert batch["error_file_id"] is None
        # The same as over HTTP: the line is the same request.
        direct = httpx.post(url + CHAT, json=json.loads(line(7))["body"], timeout=60).json()
        assert texts[7] == direct["choices"][0]["message"]["content"]


def test_a_request_is_answered_while_a_batch_fills_every_place(tiny_gguf: Path, tmp_path: Path) -> None:
    long = [
        {
            "custom_id": f"{number}",
            "method": "POST",
            "url": CHAT,
            "body": {"messages": [{"role": "user", "content": f"{number}"}], "max_tokens": 400, "ignore_eos": True},
        }
        for number in range(64)
    ]
    with running_server(str(tiny_gguf), "--parallel", "2", "--max-waiting", "0", log=tmp_path / "log") as (url, _):
        batch_id = create(url, "\n".join(map(json.dumps, long)))
        while "num_requests_running" in (metrics := httpx.get(f"{url}/metrics").text):
            running = next(text for text in metrics.splitlines() if text.startswith("glmserve:num_requests_running{"))
            if float(running.split()[-1]) >= 2:
                break
        asked = {"messages": [{"role": "user", "content": "你好"}], "max_tokens": 8}
        for _ in range(3):  # a queue without a place is no hindrance, as lines have one of their own
            reply = httpx.post(url + CHAT, json=asked, timeout=60)
            assert reply.status_code == 200, reply.text
        batch = httpx.get(f"{url}/v1/batches/{batch_id}").json()
        assert batch["status"] == "in_progress"
        assert httpx.post(f"{url}/v1/batches/{batch_id}/cancel").status_code == 200
