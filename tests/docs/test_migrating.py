"""Every row of docs/migrating.md, against a real server."""

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.docs.examples import ROOT

PAGE = (ROOT / "docs" / "migrating.md").read_text("utf-8")
_LEGACY, _OPENAI = PAGE.split("## From api.py")[1].split("## From openai_api.py")
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


def rows(part: str) -> list[str]:
    cells = [line.split(" | ")[0].removeprefix("| ") for line in part.splitlines() if line.startswith("| ")]
    return cells[1:]


class Server:
    """What the rows ask: both contracts, with short answers."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=60)

    def legacy(self, body: object = None, path: str = "/chatglm", **fields: object) -> httpx.Response:
        sent = json.dumps(body if body is not None else {"prompt": "你好", **fields})
        return self.http.post(path, content=sent)

    def chat(self, **fields: object) -> httpx.Response:
        body = {"model": "gpt-3.5-turbo", "messages": [{"role": "user", "content": "你好"}], "max_tokens": 8}
        return self.http.post("/v1/chat/completions", json={**body, **fields})

    def tokens(self, messages: list[dict[str, str]]) -> str:
        reply = self.http.post("/tokenize", json={"messages": messages, "return_token_strs": True}).json()
        return "".join(reply["token_strs"]).replace("▁", " ")


Row = Callable[[Server], bool]


def _reply(server: Server, **fields: object) -> dict[str, Any]:
    reply = server.legacy({"prompt": "你好", **fields})
    assert reply.status_code == 200, reply.text
    body: dict[str, Any] = reply.json()
    return body


def _history(server: Server, given: object, **fields: object) -> list[Any]:
    """Return the history of the reply to a question after the ``given`` one."""
    history: list[Any] = _reply(server, history=given, **fields)["history"]
    return history


def _room_past_max_length(server: Server) -> bool:
    """A token for each character of an answer would be 20 here."""
    history = [["你好", "你好！有什么可以帮你？" * 8]]
    reply = server.legacy(history=history, max_length=80, temperature=0.01)
    return reply.status_code == 200 and len(reply.json()["response"]) > 3


def _bytes(server: Server) -> bool:
    pattern = r'\{"response":"([^"]*)","history":\[\["你好","\1"\]\],"status":200,"time":"' + TIME + r'"\}'
    return re.fullmatch(pattern, server.legacy().content.decode()) is not None


def _error(server: Server) -> bool:
    reply = server.legacy({"prompt": 1})
    body = reply.json()
    return reply.status_code == 400 and list(body) == ["response", "history", "status", "time", "error"]


def _long_history(server: Server) -> bool:
    history = [["问" * 300, "答" * 300]] * 12
    return _history(server, history, max_length=20000)[:12] == history


def _together(server: Server) -> bool:
    with ThreadPoolExecutor(4) as pool:
        return all(each.status_code == 200 for each in pool.map(lambda _: server.legacy(), range(4)))


def _page(server: Server) -> bool:
    reply = server.http.get("/", headers={"Accept": "text/html"})
    return reply.status_code == 200 and "text/html" in reply.headers["content-type"]


def _allowed(reply: httpx.Response) -> str | None:
    origin: str | None = reply.headers.get("access-control-allow-origin")
    return origin


def _cross_origin(server: Server, path: str, origin: str = "http://localhost:3000") -> httpx.Response:
    return server.http.options(path, headers={"Origin": origin, "Access-Control-Request-Method": "POST"})


def _local_alone(server: Server) -> bool:
    mine, foreign = _cross_origin(server, "/chatglm"), _cross_origin(server, "/chatglm", "http://a.example")
    return _allowed(mine) == "http://localhost:3000" and _allowed(foreign) is None


ASSISTANT_LAST = [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "好"}]
LEGACY: dict[str, Row] = {
    "address": lambda s: s.legacy(path="/").json().keys() == s.legacy(path="/chatglm").json().keys(),
    "`prompt`": lambda s: s.legacy().status_code == 200 and s.legacy({"prompt": 1}).status_code == 400,
    "`prompt: null`": lambda s: s.legacy({"prompt": None}).status_code == 400,
    "`history`": lambda s: len(_history(s, None)) == len(_history(s, [])) == 1,
    '`history: [[null, "…"]]`': lambda s: _history(s, [[None, "好"]])[0] == [None, "好"],
    '`history: [{"role": …}]`': lambda s: (
        [said["role"] for said in _history(s, ASSISTANT_LAST)] == ["user", "assistant"] * 2
    ),
    "malformed `history`": lambda s: "history[0]" in s.legacy(history=["你", "好"]).json()["error"],
    "`max_length`": lambda s: s.legacy(max_length=20000).status_code == 200,
    "prompt that fills `max_length`": _room_past_max_length,
    "`top_p`": lambda s: s.legacy(top_p=7).status_code == 200,
    "`temperature`": lambda s: s.legacy(temperature=7).status_code == 200,
    '`""`, `0`, `null`': lambda s: all(
        s.legacy(max_length=v, top_p=v, temperature=v).status_code == 200 for v in ("", 0, None)
    ),
    "numbers as strings": lambda s: s.legacy(max_length="100", temperature="0.5").status_code == 200,
    "negative numbers": lambda s: {s.legacy(top_p=-1).status_code, s.legacy(temperature=-1).status_code} == {400},
    "other fields": lambda s: s.legacy(endpoint_url="x", anything=[1]).status_code == 200,
    "`Content-Type`": lambda s: all(
        s.http.post("/chatglm", content='{"prompt": "你好"}', headers={"Content-Type": kind}).status_code == 200
        for kind in ("text/plain", "application/x-www-form-urlencoded")
    ),
    "bytes of the reply": _bytes,
    # That the marker of the training date is replaced is seen where answers are made up: tests/contract/test_legacy.py.
    "`response`": lambda s: (text := str(_reply(s)["response"])) == text.strip(),
    "`history` of the reply": lambda s: _history(s, [["a", "b"]])[0] == ["a", "b"],
    "`time`": lambda s: re.fullmatch(TIME, str(_reply(s)["time"])) is not None,
    "errors": _error,
    "`status`": lambda s: (s.legacy().json()["status"], s.legacy({"prompt": 1}).json()["status"]) == (200, 400),
    "history past the context": _long_history,
    "question past the context": lambda s: s.legacy(prompt="很长" * 4000).status_code == 400,
    "several callers": _together,
    "`GET /`": _page,
    "browsers of other origins": _local_alone,
}


def _models(server: Server) -> bool:
    cards = server.http.get("/v1/models").json()["data"]
    return "gpt-3.5-turbo" in cards[0]["aliases"] and all(card["kind"] != "task" for card in cards)


def _system_first(server: Server) -> bool:
    user, assistant = {"role": "user", "content": "alpha"}, {"role": "assistant", "content": "beta"}
    text = server.tokens([{"role": "system", "content": "gamma"}, user, assistant, user])
    return text.index("gamma") < text.index("alpha") < text.index("beta")


def _odd(server: Server) -> bool:
    return "alpha" in server.tokens([{"role": "user", "content": "alpha"}, {"role": "user", "content": "beta"}])


def _greedy(server: Server) -> bool:
    answers = {server.chat(temperature=0).json()["choices"][0]["message"]["content"] for _ in range(3)}
    return len(answers) == 1


def _greedy_choices(server: Server, **fields: object) -> object:
    return server.chat(temperature=0, **fields).json()["choices"]


def _lengths(server: Server) -> bool:
    reply = server.chat(max_tokens=3, n=2, seed=1, stop=["。"]).json()
    return len(reply["choices"]) == 2 and reply["usage"]["completion_tokens"] <= 6


def _stream(server: Server) -> bool:
    events = [line[6:] for line in server.chat(stream=True, max_tokens=40).text.splitlines() if line]
    *chunks, last = [json.loads(event)["choices"][0] for event in events[:-1]]
    return (chunks[0]["delta"]["role"], last["delta"], last["finish_reason"], events[-1]) == (
        "assistant",
        {},
        "stop",
        "[DONE]",
    )


def _code(reply: httpx.Response) -> tuple[int, str, str | None]:
    return reply.status_code, reply.json()["error"]["code"], reply.json()["error"]["param"]


def _no_credentials(server: Server) -> bool:
    reply = _cross_origin(server, "/v1/chat/completions")
    return _local_alone(server) and "access-control-allow-credentials" not in reply.headers


OPENAI: dict[str, Row] = {
    "`GET /v1/models`": _models,
    "`model`": lambda s: (
        (s.chat().status_code, s.chat(model=None).status_code, s.chat(model="x").status_code) == (200, 200, 404)
    ),
    "last message": lambda s: s.chat(messages=ASSISTANT_LAST).status_code == 200,
    "leading system message": _system_first,
    "odd number of earlier messages": _odd,
    "`temperature`, `top_p`": _greedy,
    "`max_length`": lambda s: _greedy_choices(s, max_length=1) == _greedy_choices(s),
    "`max_tokens`, `stop`, `n`, `seed`": _lengths,
    "unknown fields": lambda s: s.chat(anything=1).headers["x-glmserve-ignored-fields"] == "anything",
    "reply": lambda s: (
        {"model", "object", "choices", "created", "id", "usage", "system_fingerprint"} == s.chat().json().keys()
    ),
    "`object`": lambda s: (
        s.chat().json()["object"] == "chat.completion"
        and '"object":"chat.completion.chunk"' in s.chat(stream=True).text
    ),
    "`choices`": lambda s: {"index", "message", "finish_reason"} <= s.chat().json()["choices"][0].keys(),
    "`finish_reason`": lambda s: s.chat(max_tokens=1).json()["choices"][0]["finish_reason"] == "length",
    "stream": _stream,
    "errors": lambda s: s.chat(model="x").json()["error"].keys() == {"message", "type", "param", "code"},
    "CORS": _no_credentials,
}


@pytest.fixture(scope="module")
def server(documented: str) -> Server:
    return Server(documented)


@pytest.mark.parametrize("row", rows(_LEGACY))
def test_a_row_about_the_original_api_is_true(row: str, server: Server) -> None:
    assert LEGACY[row](server)


@pytest.mark.parametrize("row", rows(_OPENAI))
def test_a_row_about_the_original_openai_api_is_true(row: str, server: Server) -> None:
    assert OPENAI[row](server)


def test_there_is_no_check_without_a_row() -> None:
    assert rows(_LEGACY) == list(LEGACY)
    assert rows(_OPENAI) == list(OPENAI)
