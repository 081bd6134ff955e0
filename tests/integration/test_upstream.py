"""A server without a model of its own, in front of a second one that has the embedded model."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.conftest import running_server
from tests.support.processes import children

KEY = "sk-between-the-two"
GREEDY = {"temperature": 0, "max_tokens": 24}
CHAT = {"messages": [{"role": "user", "content": "把这句话翻译成英文：今天天气很好。"}], **GREEDY}
STREAMED = {**CHAT, "stream": True}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}


@dataclass
class Both:
    """The two servers."""

    front: httpx.Client
    behind: httpx.Client
    process: subprocess.Popen[bytes]
    """Of the front."""
    upstream: subprocess.Popen[bytes]


@pytest.fixture(scope="module")
def both(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    folder = tmp_path_factory.mktemp("upstream")
    with running_server(str(tiny_gguf), "--api-key", f"front:{KEY}", log=folder / "behind.log") as (behind, upstream):
        settings = folder / "front.toml"
        settings.write_text(
            f'[[models]]\nname = "big"\nupstream = "{behind}/v1"\n'
            'upstream_model = "chatglm2-tiny"\nupstream_key_env = "BIG_KEY"\n'
        )
        start = running_server("--config", str(settings), log=folder / "front.log", environment={"BIG_KEY": KEY})
        keyed = {"Authorization": f"Bearer {KEY}"}
        with (
            start as (front, process),
            httpx.Client(base_url=front, timeout=60) as one,
            httpx.Client(base_url=behind, headers=keyed, timeout=60) as other,
        ):
            yield Both(one, other, process, upstream)


def text_of(stream: str) -> str:
    data = [line[6:] for line in stream.splitlines() if line.startswith("data: ")]
    assert data.pop() == "[DONE]"
    deltas = [choice["delta"] for one in map(json.loads, data) for choice in one["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


def test_a_server_without_a_model_of_its_own_has_no_engine(both: Both) -> None:
    assert children(both.upstream.pid, b"spawn_main")
    assert not children(both.process.pid, b"spawn_main")
    assert both.front.get("/health").json()["models"][0]["state"] == "ready"


def test_a_chat_is_the_same_whole_streamed_and_asked_directly(both: Both) -> None:
    there = both.behind.post("/v1/chat/completions", json=CHAT).json()
    here = both.front.post("/v1/chat/completions", json=CHAT).json()
    assert here["choices"] == there["choices"]
    assert here["model"] == "big"
    assert here["usage"]["total_tokens"] == there["usage"]["total_tokens"]
    expected = there["choices"][0]["message"]["content"]
    assert text_of(both.front.post("/v1/chat/completions", json=STREAMED).text) == expected
    message = both.front.post("/v1/messages", json=CHAT).json()
    assert "".join(block["text"] for block in message["content"]) == expected
    body = {"input": CHAT["messages"], "temperature": 0, "max_output_tokens": 24}
    response = both.front.post("/v1/responses", json=body).json()
    assert response["output"][0]["content"][0]["text"] == expected
    assert response["usage"]["input_tokens"] == there["usage"]["prompt_tokens"]


def test_a_completion_with_log_probabilities(both: Both) -> None:
    body = {"prompt": "你好", "logprobs": 2, **GREEDY}
    there, here = (one.post("/v1/completions", json=body).json() for one in (both.behind, both.front))
    assert here["choices"] == there["choices"]


def test_log_probabilities_of_a_response(both: Both) -> None:
    body = {"input": "你好", "temperature": 0, "max_output_tokens": 8, "top_logprobs": 2}
    body["include"] = ["message.output_text.logprobs"]
    there, here = (
        one.post("/v1/responses", json=body).json()["output"][0]["content"] for one in (both.behind, both.front)
    )
    assert [token["token"] for token in here[0]["logprobs"]] == [token["token"] for token in there[0]["logprobs"]]


def test_a_call_that_is_required(both: Both) -> None:
    tool = {"name": "get_weather", "input_schema": {"type": "object", "properties": {}}}
    body = {**CHAT, "max_tokens": 60, "tools": [tool], "tool_choice": {"type": "any"}}
    blocks = both.front.post("/v1/messages", json=body).json()["content"]
    assert next(block["name"] for block in blocks if block["type"] == "tool_use") == "get_weather"
    body = {**CHAT, "max_tokens": 60, "tools": [TOOL], "tool_choice": "required"}
    calls = both.front.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["tool_calls"]
    assert calls[0]["function"]["name"] == "get_weather"


def test_a_schema_is_held(both: Both) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    text = {"format": {"type": "json_schema", "name": "n", "schema": schema}}
    response = both.front.post("/v1/responses", json={"input": "1 + 1", "text": text, "max_output_tokens": 60}).json()
    assert isinstance(json.loads(response["output"][0]["content"][0]["text"])["n"], int)


@pytest.mark.parametrize("path", ["/chatglm", "/baichuan"])
def test_legacy_addresses(both: Both, path: str) -> None:
    reply = both.front.post(path, json={"prompt": "你好", "history": [["早", "早上好"]], "max_length": 20}).json()
    assert (reply["status"], len(reply["history"])) == (200, 2)
    assert reply["response"] == reply["history"][1][1] != ""


def test_a_task_of_the_package(both: Both) -> None:
    listed = both.front.get("/v1/models", params={"kind": "task"}).json()["data"]
    task = next(one["id"] for one in listed if one["task"]["main_slot"])
    answer = both.front.post("/v1/chat/completions", json={**CHAT, "model": task}).json()
    assert answer["choices"][0]["finish_reason"] in ("stop", "length")
    assert answer["model"] == task


def test_an_error_keeps_its_status_and_code(both: Both) -> None:
    body = {**CHAT, "messages": [{"role": "user", "content": "好" * 20_000}]}
    for path in ("/v1/chat/completions", "/v1/messages"):
        assert both.front.post(path, json=body).status_code == 400
    error = both.front.post("/v1/chat/completions", json=body).json()["error"]
    assert error["code"] == "context_length_exceeded"


def test_an_upstream_that_is_killed_in_the_middle_of_a_stream(both: Both) -> None:
    body = {**STREAMED, "max_tokens": 3000, "ignore_eos": True}
    with both.front.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("data: ")
        both.upstream.kill()
        rest = [line for line in lines if line.startswith("data: ")]
    assert rest[-1] == "data: [DONE]"
    assert json.loads(rest[-2][6:])["error"]["code"] == "upstream_died"
    both.upstream.wait()
    answer = both.front.post("/chatglm", json={"prompt": "x"})
    assert (answer.status_code, answer.json()["status"]) == (503, 503)
    assert both.front.get("/health").json()["status"] == "unreachable"
