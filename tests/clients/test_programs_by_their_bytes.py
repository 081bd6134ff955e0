"""Programs that cannot be installed here: what they send, and how they read the reply, line by line."""

import json
from collections.abc import Iterator

import pytest
import requests

from tests.clients.conftest import Deployment

HELLO = [{"role": "user", "content": "你好"}]


class Caller:
    """Posts with a key, as most of them do."""

    def __init__(self, deployment: Deployment) -> None:
        self.url = deployment.url
        self.headers = {"Authorization": f"Bearer {deployment.key}", "Content-Type": "application/json"}

    def post(self, path: str, body: object, *, stream: bool = False) -> requests.Response:
        return requests.post(self.url + path, json=body, headers=self.headers, stream=stream, timeout=60)

    def get(self, path: str) -> requests.Response:
        return requests.get(self.url + path, headers=self.headers, timeout=60)


@pytest.fixture
def caller(deployment: Deployment) -> Caller:
    return Caller(deployment)


@pytest.mark.parametrize(
    ("path", "asked", "kind"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "ping"}]}, "chat.completion"),
        ("/v1/completions", {"prompt": "ping"}, "text_completion"),
    ],
)
def test_dify_adds_the_model(caller: Caller, path: str, asked: dict[str, object], kind: str) -> None:
    reply = caller.post(path, {"model": "chatglm2-tiny", "max_tokens": 5, **asked})
    assert (reply.status_code, reply.json()["object"]) == (200, kind)


def test_dify_cuts_a_stream_at_empty_lines(caller: Caller) -> None:
    body = {
        "model": "chatglm2-tiny",
        "stream": True,
        "temperature": 0.7,
        "top_p": 1,
        "top_k": 1,
        "frequency_penalty": 0,
        "presence_penalty": 0,
        "max_tokens": 512,
        "messages": HELLO,
        "stop": ["\nHuman:"],
        "user": "3f4c",
    }
    reply = caller.post("/v1/chat/completions", body, stream=True)
    if reply.encoding in (None, "ISO-8859-1"):
        reply.encoding = "utf-8"
    text, model = "", None
    for event in reply.iter_lines(decode_unicode=True, delimiter="\n\n"):
        data = event.strip().removeprefix("data: ")
        if not data or data == "[DONE]":
            continue
        chunk = json.loads(data)
        model = chunk["model"]
        if chunk["choices"]:
            text += chunk["choices"][0]["delta"].get("content") or ""
    assert "glmserve" in text
    assert model == "chatglm2-tiny"


def test_one_api_tests_a_channel(caller: Caller) -> None:
    body = {"model": "gpt-3.5-turbo", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    reply = caller.post("/v1/chat/completions", body).json()
    assert reply["usage"]["completion_tokens"] > 0
    assert "error" not in reply


def one_api_lines(reply: requests.Response) -> Iterator[str]:
    for line in reply.iter_lines(decode_unicode=True, delimiter="\n"):
        # Shorter lines are skipped; what is left is passed on only after "data: ", blank included.
        if len(line) >= len("data: "):
            assert line.startswith(("data: ", "[DONE]")), line
            yield line.removeprefix("data: ")


def test_one_api_reads_lines_and_counts(caller: Caller) -> None:
    body = {"model": "gpt-3.5-turbo", "messages": HELLO, "stream": True, "stream_options": {"include_usage": True}}
    reply = caller.post("/v1/chat/completions", body, stream=True)
    reply.encoding = "utf-8"
    *chunks, done = one_api_lines(reply)
    assert done == "[DONE]"
    read = [json.loads(chunk) for chunk in chunks]
    assert "".join(choice["delta"].get("content") or "" for chunk in read for choice in chunk["choices"])
    assert read[-1]["usage"]["completion_tokens"] > 0


def test_nextchat_chats(caller: Caller) -> None:
    body = {
        "messages": HELLO,
        "stream": True,
        "model": "gpt-3.5-turbo",
        "temperature": 0.5,
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "top_p": 1,
    }
    reply = caller.post("/v1/chat/completions", body, stream=True)
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.content.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    "path",
    [
        "/dashboard/billing/usage?start_date=2026-11-01&end_date=2026-11-23",
        "/dashboard/billing/subscription",
        "/v1/dashboard/billing/subscription",
    ],
)
def test_nextchat_is_told_that_there_is_no_bill(caller: Caller, path: str) -> None:
    reply = caller.get(path)
    assert reply.status_code == 404
    assert reply.json()["error"]["type"] == "invalid_request_error"


def test_open_webui_lists_models_and_names_a_conversation(caller: Caller) -> None:
    models = caller.get("/v1/models").json()
    assert (models["object"], {model["object"] for model in models["data"]}) == ("list", {"model"})
    assert caller.get("/v1/models/gpt-3.5-turbo").json()["id"] == "chatglm2-tiny"
    body = {
        "model": "chatglm2-tiny",
        "messages": [{"role": "user", "content": "Create a concise, 3-5 word title.\nUSER: 你好\nASSISTANT: 你好！"}],
        "stream": False,
        "max_completion_tokens": 1000,
    }
    reply = caller.post("/v1/chat/completions", body)
    assert reply.status_code == 200
    assert reply.json()["choices"][0]["message"]["content"]


def test_continue_completes_code(caller: Caller) -> None:
    body = {
        "model": "chatglm2-tiny",
        "max_tokens": 8,
        "temperature": 0.01,
        "stream": True,
        "stop": ["<fim_prefix>", "<fim_suffix>", "<fim_middle>", "\n\n", "\r\n\r\n", "/src/", "t."],
        "prompt": "def add(a, b):\n    ",
    }
    reply = caller.post("/v1/completions", body, stream=True)
    reply.encoding = "utf-8"
    *chunks, done = one_api_lines(reply)
    assert done == "[DONE]"
    assert all(len(json.loads(chunk)["choices"]) == 1 for chunk in chunks)


def test_continue_chats_with_parts_of_text(caller: Caller) -> None:
    parts = [{"type": "text", "text": "你好"}]
    body = {"model": "chatglm2-tiny", "max_tokens": 8, "stream": True, "messages": [{"role": "user", "content": parts}]}
    assert caller.post("/v1/chat/completions", body).content.endswith(b"data: [DONE]\n\n")


def test_the_old_openai_library_reads_the_stream_of_openai_api_py(server_url: str) -> None:
    """``openai.ChatCompletion.create`` of version 0.27, which the model's authors tell people to use: no key counts."""
    headers = {
        "Authorization": "Bearer none",
        "Content-Type": "application/json",
        "User-Agent": "OpenAI/v1 PythonBindings/0.27.8",
        "X-OpenAI-Client-User-Agent": '{"bindings_version": "0.27.8", "httplib": "requests", "lang": "python"}',
    }
    body = {"model": "gpt-3.5-turbo", "messages": HELLO, "stream": True}
    reply = requests.post(
        f"{server_url}/v1/chat/completions", data=json.dumps(body).encode(), headers=headers, stream=True, timeout=60
    )
    assert "text/event-stream" in reply.headers["Content-Type"]
    text = ""
    for line in reply.iter_lines():
        if line and line.strip() != b"data: [DONE]":
            assert line.startswith(b"data: ")
            delta = json.loads(line[len(b"data: ") :])["choices"][0]["delta"]
            text += delta.get("content", "")
    assert "glmserve" in text


WEATHER = {
    "name": "get_current_weather",
    "description": "Get the current weather in a given location.",
    "parameters": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
}
CALLED = [
    {"role": "user", "content": "波士顿天气如何？"},
    {
        "role": "assistant",
        "content": "get_current_weather\n ```python\ntool_call(location='Beijing', unit='celsius')\n```",
        "function_call": {"name": "get_current_weather", "arguments": '{"location": "Beijing", "unit": "celsius"}'},
    },
    {"role": "function", "name": "get_current_weather", "content": '{"temperature": "12", "unit": "celsius"}'},
]


@pytest.mark.parametrize(("messages", "function"), [(HELLO, None), (CALLED, [WEATHER])])
@pytest.mark.parametrize("stream", [False, True])
def test_the_client_beside_chatglm3(server_url: str, messages: object, function: object, stream: bool) -> None:
    """It calls the functions ``function``, which its own server does not know and leaves out, too."""
    body = {
        "function": function,
        "model": "chatglm3-6b",
        "messages": messages,
        "stream": stream,
        "max_tokens": 100,
        "temperature": 0.8,
        "top_p": 0.8,
    }
    reply = requests.post(f"{server_url}/v1/chat/completions", json=body, stream=stream, timeout=60)
    assert reply.status_code == 200, reply.text
    if not stream:
        assert reply.json()["choices"][0]["message"]["content"]
        return
    lines = [line.decode()[6:] for line in reply.iter_lines() if line]
    assert lines.pop() == "[DONE]"
    assert "".join(json.loads(line)["choices"][0]["delta"].get("content", "") for line in lines)
