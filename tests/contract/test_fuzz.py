"""Bodies nobody would write: never a 5xx, and an error always in its dialect's shape."""

import json
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glmserve.api.anthropic.protocol import MessagesRequest
from glmserve.api.common.base import RequestObject
from glmserve.api.openai.chat_completions.protocol import ChatRequest
from glmserve.api.openai.completions.protocol import CompletionRequest
from glmserve.api.openai.responses.protocol import ResponsesRequest
from tests.support.api import make_app, serve
from tests.support.scripted_engine import ScriptedEngine

EXAMPLES = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-3, 3)
    | st.floats()
    | st.sampled_from([10**30, 10**400, 1e308, -0.0, "", "0", "nan", "inf", "\x00", "\ud800", "你好"])
    | st.text(st.characters(exclude_categories=()), max_size=8)
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)


def names(kind: type[RequestObject]) -> list[str]:
    return sorted(kind.known_fields())


ROLES = st.sampled_from(["system", "developer", "user", "assistant", "tool", "x"]) | JSON
PARTS = st.fixed_dictionaries({"type": st.sampled_from(["text", "image_url"]) | JSON, "text": st.text() | JSON})
CONTENT = st.text(max_size=20) | st.lists(PARTS, max_size=2) | JSON
MESSAGE = st.fixed_dictionaries({"role": ROLES}, optional={"content": CONTENT, "name": JSON, "tool_calls": JSON})
MESSAGES = st.lists(MESSAGE, max_size=4).map(lambda earlier: [*earlier, {"role": "user", "content": "hi"}])
FIELDS = st.dictionaries(st.sampled_from([*names(ChatRequest), "other"]), JSON, max_size=4)
CHAT = st.builds(
    lambda fields, messages: {"messages": messages, **fields},
    FIELDS,
    MESSAGES | st.lists(MESSAGE | JSON, max_size=3) | JSON,
)
NEARLY_VALID = st.fixed_dictionaries(
    {"messages": MESSAGES},
    optional={
        "temperature": st.floats(-1, 3),
        "top_p": st.floats(-1, 2),
        "top_k": st.integers(-2, 10),
        "min_p": st.floats(0, 1),
        "repetition_penalty": st.floats(0, 2),
        "max_tokens": st.integers(0, 10**6),
        "min_tokens": st.integers(0, 10**4),
        "seed": st.integers(),
        "n": st.integers(0, 6),
        "stop": st.lists(st.text(max_size=3), max_size=5) | st.text(max_size=3),
        "stream": st.booleans(),
        "stream_options": st.fixed_dictionaries({"include_usage": st.booleans()}),
        "ignore_eos": st.booleans(),
    },
)
PROMPTS = st.text(max_size=8) | st.lists(
    st.integers(-1, 600) | st.text(max_size=4) | st.lists(st.integers(0, 511)), max_size=5
)
TEXT_COMPLETION = st.fixed_dictionaries(
    {"prompt": PROMPTS | JSON},
    optional={
        "max_tokens": st.integers(-1, 10),
        "logprobs": st.integers(-1, 22),
        "n": st.integers(0, 6),
        "echo": st.booleans(),
        "stream": st.booleans(),
        "add_special_tokens": st.booleans(),
    },
)
OTHERS = st.dictionaries(st.sampled_from([*names(CompletionRequest), "other"]), JSON, max_size=2)
ITEM = st.fixed_dictionaries(
    {}, optional={"type": st.sampled_from(["message", "function_call", "function_call_output"]) | JSON, "role": ROLES,
                  "content": CONTENT, "call_id": st.sampled_from(["a", "b"]) | JSON, "name": JSON, "arguments": JSON,
                  "output": CONTENT}
)  # fmt: skip
RESPONSE = st.dictionaries(st.sampled_from([*names(ResponsesRequest), "other"]), JSON, max_size=3)
BLOCK = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "tool_use", "tool_result", "image"]) | JSON},
    optional={"text": st.text() | JSON, "id": JSON, "name": JSON, "input": JSON, "tool_use_id": JSON, "content": JSON},
)
TURN = st.fixed_dictionaries({"role": ROLES, "content": st.text(max_size=9) | st.lists(BLOCK, max_size=2) | JSON})
TURNS = st.lists(TURN, max_size=3).map(lambda earlier: [*earlier, {"role": "user", "content": "hi"}])
TURN_FIELDS = st.dictionaries(st.sampled_from([*names(MessagesRequest), "other"]), JSON, max_size=3)
PAIR = st.lists(st.text(max_size=4) | SCALARS, max_size=3)
LEGACY = st.fixed_dictionaries(
    {"prompt": st.text(max_size=20) | JSON},
    optional={
        "history": st.lists(PAIR | JSON, max_size=4) | JSON,
        "max_length": JSON,
        "top_p": JSON,
        "temperature": JSON,
        "stream": JSON,
    },
)


@pytest.fixture(scope="module")
def engine() -> ScriptedEngine:
    return ScriptedEngine(per_step=50)


@pytest.fixture(scope="module")
def http(engine: ScriptedEngine) -> Iterator[httpx.Client]:
    with serve(make_app(engine)) as url, httpx.Client(base_url=url) as client:
        yield client


def post_chat(http: httpx.Client, content: bytes, path: str = "/v1/chat/completions") -> None:
    reply = http.post(path, content=content)
    assert reply.status_code in (200, 400, 404, 413), reply.text
    if reply.status_code != 200:
        assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
        assert reply.json()["error"]["message"]


def post_legacy(http: httpx.Client, content: bytes) -> None:
    reply = http.post("/chatglm", content=content)
    assert reply.status_code in (200, 400, 413), reply.text
    assert list(reply.json())[:4] == ["response", "history", "status", "time"]
    assert reply.json()["status"] == reply.status_code


@EXAMPLES
@given(CHAT)
def test_chat_with_any_value_in_any_field(http: httpx.Client, body: object) -> None:
    post_chat(http, json.dumps(body).encode())


@EXAMPLES
@given(NEARLY_VALID)
def test_chat_with_values_at_and_past_the_bounds(http: httpx.Client, engine: ScriptedEngine, body: object) -> None:
    post_chat(http, json.dumps(body).encode())
    assert engine.running == 0


@EXAMPLES
@given(TEXT_COMPLETION, OTHERS)
def test_text_completions_with_any_value_in_any_field(
    http: httpx.Client, engine: ScriptedEngine, body: dict[str, object], others: dict[str, object]
) -> None:
    post_chat(http, json.dumps({**others, **body}).encode(), "/v1/completions")
    assert engine.running == 0


@EXAMPLES
@given(LEGACY)
def test_legacy_with_any_value_in_any_field(http: httpx.Client, engine: ScriptedEngine, body: object) -> None:
    post_legacy(http, json.dumps(body).encode())
    assert engine.running == 0


@EXAMPLES
@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_bodies_that_are_anything(http: httpx.Client, content: bytes) -> None:
    post_chat(http, content)
    post_legacy(http, content)


@EXAMPLES
@given(RESPONSE, st.lists(ITEM | JSON, max_size=3) | JSON)
def test_responses_with_any_value_in_any_field(
    http: httpx.Client, engine: ScriptedEngine, fields: dict[str, object], given: object
) -> None:
    post_chat(http, json.dumps({"input": given, **fields}).encode(), "/v1/responses")
    assert engine.running == 0


@EXAMPLES
@given(TURN_FIELDS, TURNS | st.lists(TURN | JSON, max_size=3) | JSON)
def test_messages_with_any_value_in_any_field(
    http: httpx.Client, engine: ScriptedEngine, fields: dict[str, object], turns: object
) -> None:
    reply = http.post("/v1/messages", content=json.dumps({"messages": turns, "max_tokens": 50, **fields}).encode())
    assert reply.status_code in (200, 400, 404, 413), reply.text
    if reply.status_code != 200:
        assert set(reply.json()) == {"type", "error", "request_id"}
        assert reply.json()["error"]["message"]
    assert engine.running == 0
