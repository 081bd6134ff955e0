"""Requests as bytes, and the catalog that a long run draws from."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass

from glmserve.chat.prompts.formats import chatglm2_text
from tests.support.load.connection import Leave

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Ask:
    """A request: how its reply is read (see ``replies``), and what it is as bytes."""

    kind: str
    request: bytes
    generates: bool = True
    """Whether it is one of those that the books of ``/metrics`` are about."""
    leave: Leave | None = None
    pinned: bool = False
    """Whether its prompt begins with what the server keeps pinned."""

    @property
    def is_heard(self) -> bool:
        """Whether so much of it is sent that the server knows what is asked for."""
        return self.leave is None or self.leave.share * len(self.request) > self.request.index(b"\r\n\r\n") + 4


@dataclass(frozen=True, slots=True)
class Case:
    """A conversation whose greedy answer is sure: each token is far ahead of the next best."""

    model: str
    messages: tuple[Json, ...]
    prompt_ids: tuple[int, ...]
    answer: str
    """Eight tokens of it, or all."""
    pinned: bool = False

    @property
    def is_legacy(self) -> bool:
        return self.model == "tiny" and all(message["role"] != "system" for message in self.messages)


def post(kind: str, path: str, body: Json, *, generates: bool = True, pinned: bool = False) -> Ask:
    return Ask(kind, request_bytes("POST", path, json.dumps(body).encode()), generates, pinned=pinned)


def request_bytes(method: str, path: str, body: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def get(path: str) -> Ask:
    return Ask("status", request_bytes("GET", path), generates=False)


def asks_of(case: Case, tokens: int) -> Iterator[Ask]:
    """Yield every way to ask for the first ``tokens`` tokens of an answer, greedily."""
    plain: Json = {"model": case.model, "temperature": 0}
    chat: Json = {**plain, "messages": case.messages, "max_tokens": tokens}
    stops: Json = {"stop": [case.answer[len(case.answer) // 2 :][:2], "\n\n"]} if case.answer else {}
    bodies: list[tuple[str, str, Json]] = [
        ("chat", "/v1/chat/completions", chat),
        ("chat", "/v1/chat/completions", {**chat, "n": 2, "timings": True}),
        ("chat", "/v1/chat/completions", {**chat, "logprobs": True, "top_logprobs": 3}),
        ("chat", "/v1/chat/completions", {**chat, **stops}),
        ("chat_stream", "/v1/chat/completions", {**chat, **_COUNTED}),
        ("chat_stream", "/v1/chat/completions", {**chat, "stream": True, "n": 3, **stops}),
    ]
    text: Json = {**plain, "prompt": case.prompt_ids, "max_tokens": tokens}
    bodies += [
        ("completion", "/v1/completions", text),
        ("completion", "/v1/completions", {**text, "prompt": [case.prompt_ids, case.prompt_ids], "logprobs": 2}),
        ("completion", "/v1/completions", {**text, "max_tokens": 0, "echo": True, "logprobs": 1}),
        ("completion_stream", "/v1/completions", {**text, **_COUNTED, **stops}),
    ]
    response: Json = {**plain, "input": case.messages, "max_output_tokens": tokens}
    bodies += [
        ("response", "/v1/responses", response),
        ("response", "/v1/responses", {**response, "store": False}),
        ("response_stream", "/v1/responses", {**response, "stream": True}),
    ]
    message: Json = {**plain, "messages": case.messages, "max_tokens": tokens}
    bodies += [
        ("message", "/v1/messages", message),
        ("message_stream", "/v1/messages", {**message, "stream": True}),
    ]
    if case.is_legacy:
        *earlier, last = (message["content"] for message in case.messages)
        history = [list(pair) for pair in zip(earlier[::2], earlier[1::2], strict=True)]
        length = len(case.prompt_ids) + tokens
        legacy: Json = {"prompt": last, "history": history, "temperature": 0.01, "max_length": length}
        bodies += [("legacy", path, legacy) for path in ("/chatglm", "/")]
    # What a prompt is to be scored by has to be computed.
    return (post(kind, path, body, pinned=case.pinned and "echo" not in body) for kind, path, body in bodies)


def refused() -> list[Ask]:
    """Return requests that are refused, each in the words of its address."""
    hi: Json = {"messages": [{"role": "user", "content": "你好"}]}
    chats: list[Json] = [
        {}, {"messages": []}, {"messages": "你好"}, {**hi, "temperature": 9}, {**hi, "n": 129},
        {**hi, "max_tokens": -2}, {**hi, "model": "no-such-model"}, {**hi, "n_predict": 5},
        {**hi, "logit_bias": {"99999999": 1}}, {**hi, "top_logprobs": 3}, {**hi, "response_format": {"type": "x"}},
        {**hi, "structured_outputs": {"regex": "((("}}, {**hi, "tools": [{"type": "function"}]},
        {"messages": [{"role": "user", "content": "长" * 9000}]},
    ]  # fmt: skip
    others: list[tuple[str, Json]] = [
        ("/v1/completions", {"prompt": [[999_999]]}),
        ("/v1/completions", {"prompt": "a", "max_tokens": 0}),
        ("/v1/responses", {"input": "a", "previous_response_id": "resp_none"}),
        ("/v1/responses", {"prompt": {"id": "no-such-prompt"}}),
        ("/v1/messages", {**hi}),
        ("/v1/embeddings", {"model": "tiny", "input": "a"}),
        ("/chatglm", {"prompt": 5}),
        ("/baichuan", {"prompt": "a", "history": "b"}),
    ]
    asks = [post("refused", "/v1/chat/completions", body) for body in chats]
    asks += [post("refused", path, body) for path, body in others]
    asks += [Ask("refused", request_bytes("POST", "/v1/chat/completions", raw)) for raw in (b"{", b"[1]", b"\xff", b"")]
    return [*asks, Ask("refused", request_bytes("GET", "/v1/nothing"), generates=False)]


def asides() -> list[Ask]:
    """Return requests for something else than an answer."""
    hi: Json = {"messages": [{"role": "user", "content": "你好"}]}
    return [
        post("plain", "/tokenize", {"prompt": "今天天气 [gMASK] 🙂", "return_token_strs": True}, generates=False),
        post("plain", "/tokenize", hi, generates=False),
        post("plain", "/detokenize", {"tokens": list(range(300, 340))}, generates=False),
        post("plain", "/v1/messages/count_tokens", hi, generates=False),
        get("/v1/models/tiny"), get("/health"), get("/metrics"), get("/tokenizer_info"),
    ]  # fmt: skip


_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string", "maxLength": 4}}},
        },
    }
]
_SCHEMA = {"type": "object", "properties": {"a": {"enum": ["甲", "乙"]}, "b": {"type": "integer"}}, "required": ["a"]}


class Drawn:
    """Makes requests that were never made before: other prompts, drawn answers, grammars, tools."""

    def __init__(self, text: str, *, vectors: bool) -> None:
        """Prompts begin with pieces of ``text``; ``vectors``: there is an embedding model."""
        self._text = text
        self._kinds = (*_DRAWN, _vectors) if vectors else _DRAWN

    def ask(self, rng: random.Random) -> Ask:
        prompt = self._text[: int(len(self._text) * rng.random() ** 2)] + f"{rng.randrange(10**6)}"
        temperature, top_p = rng.choice((0, 0.7, 1.5)), rng.choice((0.5, 1))
        return rng.choice(self._kinds)(rng, prompt, {"temperature": temperature, "top_p": top_p})


def _chat(rng: random.Random, prompt: str, common: Json) -> Ask:
    tokens = rng.randint(1, 8)
    body: Json = {**common, "messages": [{"role": "user", "content": prompt}], "max_tokens": tokens, "seed": tokens}
    format_: Json = {"type": "json_schema", "json_schema": {"name": "x", "schema": _SCHEMA}}
    kinds: tuple[Json, ...] = (
        {"n": rng.randint(1, 4)},
        {"frequency_penalty": 1, "repetition_penalty": 1.2},
        {"tools": _TOOLS, "tool_choice": rng.choice(("auto", "required"))},
        {"structured_outputs": {"choice": [f"{rng.randrange(10**4)}" for _ in range(3)]}},
        {"response_format": format_},
        {"guided_regex": "[甲乙]{2,5}", **_COUNTED},
    )
    more = rng.choice(kinds)
    return post("chat_stream" if "stream" in more else "chat", "/v1/chat/completions", {**body, **more})


def _text(rng: random.Random, prompt: str, common: Json) -> Ask:
    tokens = rng.randint(1, 8)
    body: Json = {**common, "max_tokens": tokens, "min_tokens": tokens}
    if rng.random() < 0.5:
        return post("completion_stream", "/v1/completions", {**body, "prompt": prompt, **_COUNTED})
    return post("completion", "/v1/completions", {**body, "prompt": [prompt, prompt + "？"], "n": 2})


def _response(rng: random.Random, prompt: str, common: Json) -> Ask:
    body: Json = {**common, "input": prompt, "max_output_tokens": rng.randint(1, 8), "stream": True}
    return post("response_stream", "/v1/responses", body)


def _message(rng: random.Random, prompt: str, common: Json) -> Ask:
    messages: list[Json] = [{"role": "user", "content": prompt}]
    return post(
        "message", "/v1/messages", {"messages": messages, "max_tokens": rng.randint(1, 8), "system": prompt[:9]}
    )


def _vectors(rng: random.Random, prompt: str, common: Json) -> Ask:
    body: Json = {"model": "vectors", "input": [prompt[:8], "a cat sat"] * rng.randint(1, 4)}
    return post("embedding", "/v1/embeddings", body)


_DRAWN = (_chat, _chat, _chat, _text, _response, _message)
_COUNTED: Json = {"stream": True, "stream_options": {"include_usage": True}}

LONG_TOKENS, SHORT_TOKENS = 100, 3
HI_TOKENS = 18
"""Of a prompt that asks 你好."""


def to_leave() -> list[Ask]:
    """Return requests that somebody leaves: all with one prompt and one of two lengths, whatever their address."""
    plain: Json = {"temperature": 0, "ignore_eos": True}
    hi: list[Json] = [{"role": "user", "content": "你好"}]
    asks: list[Ask] = []
    for tokens in (LONG_TOKENS, SHORT_TOKENS):
        chat: Json = {**plain, "messages": hi, "max_tokens": tokens}
        text: Json = {**plain, "prompt": chatglm2_text([], "你好"), "max_tokens": tokens}
        response: Json = {**plain, "input": "你好", "max_output_tokens": tokens}
        asks += [
            post("chat", "/v1/chat/completions", chat),
            post("chat_stream", "/v1/chat/completions", {**chat, "stream": True}),
            post("chat_stream", "/v1/chat/completions", {**chat, "stream": True, "guided_regex": "[甲乙]{400}"}),
            post("completion", "/v1/completions", text),
            post("completion_stream", "/v1/completions", {**text, "stream": True}),
            post("response", "/v1/responses", response),
            post("response_stream", "/v1/responses", {**response, "stream": True}),
        ]
    message: Json = {"temperature": 0, "messages": hi, "max_tokens": SHORT_TOKENS}
    legacy: Json = {"prompt": "你好", "temperature": 0.01, "max_length": HI_TOKENS + SHORT_TOKENS}
    return [
        *asks,
        post("message", "/v1/messages", message),
        post("message_stream", "/v1/messages", {**message, "stream": True}),
        post("legacy", "/chatglm", legacy),
    ]
