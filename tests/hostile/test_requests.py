"""Requests that crashed, hung or emptied other servers. References are issues and advisories of those."""

import json
import re
import time
from collections.abc import Callable, Mapping

import httpx
import pytest

from tests.hostile.conftest import Target
from tests.support.hostile_grammars import HOSTILE
from tests.support.slow_callers import wait_until

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
MESSAGES, LEGACY, TOKENIZE, EMBEDDINGS = "/v1/messages", "/chatglm", "/tokenize", "/v1/embeddings"

SAID = [{"role": "user", "content": "你好"}]
BODIES: dict[str, dict[str, object]] = {
    CHAT: {"messages": SAID, "max_tokens": 2},
    COMPLETIONS: {"prompt": "你好", "max_tokens": 2},
    RESPONSES: {"input": "你好", "max_output_tokens": 16},
    MESSAGES: {"model": "chat", "messages": SAID, "max_tokens": 2},
    LEGACY: {"prompt": "你好", "max_length": 40},
    TOKENIZE: {"prompt": "你好"},
    EMBEDDINGS: {"input": "mat", "model": "vectors"},
}
"""A good request to each address."""
TEXT_FIELD: dict[str, Callable[[str], dict[str, object]]] = {
    CHAT: lambda text: {"messages": [{"role": "user", "content": text}]},
    COMPLETIONS: lambda text: {"prompt": text},
    RESPONSES: lambda text: {"input": text},
    MESSAGES: lambda text: {"messages": [{"role": "user", "content": text}]},
    LEGACY: lambda text: {"prompt": text},
    TOKENIZE: lambda text: {"prompt": text},
    EMBEDDINGS: lambda text: {"input": text},
}
SAMPLED = (CHAT, COMPLETIONS, RESPONSES, MESSAGES)
SECONDS = 40.0
"""That nothing here may take, on a busy machine."""


def post(target: Target, path: str, body: object, *, headers: Mapping[str, str] | None = None) -> httpx.Response:
    """Send ``body`` as it is if it is bytes, else as JSON; whatever comes back comes in time and gives nothing away."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    started = time.monotonic()
    reply = target.http.post(path, content=content, headers=headers)
    assert time.monotonic() - started < SECONDS
    assert str(target.secret.parent) not in reply.text
    assert "Traceback" not in reply.text
    return reply


def refused(target: Target, path: str, body: object, *, statuses: tuple[int, ...] = (400,)) -> str:
    """Return what the error says. It is in the shape that the address has for errors, and short."""
    reply = post(target, path, body)
    assert reply.status_code in statuses, (path, reply.status_code, reply.text[:500])
    assert len(reply.content) < 2000
    error = reply.json()["error"]
    if path == LEGACY:
        assert reply.json()["status"] == reply.status_code
        return str(error)
    assert error["type"]
    return str(error["message"])


@pytest.mark.parametrize("path", BODIES)
def test_a_good_request_is_answered(target: Target, path: str) -> None:
    """What all others here are changes of."""
    assert post(target, path, BODIES[path]).status_code == 200


def test_grammars_that_crash_or_hang_who_compiles_them(target: Target) -> None:
    """60,000 open brackets were a SIGSEGV of llama-server (llama.cpp#26600), `^****` and `(((` crashed its converter of
    schemas (#19007, #19008, #25283, #25284), `foo**` killed vLLM's engine (vllm#17313, #19270, CVE-2025-48944).
    The engine test has all of them; here some go the whole way."""
    for name in ("nested groups", "stars", "chain of rules", "references in a ring"):
        grammar = HOSTILE[name]
        field = {"regex": "regex", "lark": "grammar", "json_schema": "json"}[grammar.kind.value]
        said = refused(target, CHAT, {**BODIES[CHAT], "structured_outputs": {field: grammar.source}})
        assert "grammar" in said, (name, said)


@pytest.mark.parametrize("pattern", ["^****", "(" * 500, "[" * 500, "\\", "(?P<a>a)\\1"])
def test_regular_expressions_that_are_none(target: Target, pattern: str) -> None:
    """vllm#17313 and CVE-2025-48944: an exception where the engine compiled it ended the engine for everybody. A lone
    backslash at the end was dropped here once, and the answer held to what was left."""
    refused(target, CHAT, {**BODIES[CHAT], "guided_regex": pattern})
    if pattern == "\\":
        return
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": pattern}}, "required": ["a"]}
    for strict in (True, False):
        tool = {"name": "f", "parameters": schema, "strict": strict}
        forced = {"tools": [{"type": "function", "function": tool}], "tool_choice": "required"}
        flat = {"tools": [{"type": "function", **tool}], "tool_choice": "required"}
        native = {"tools": [{"name": "f", "input_schema": schema, "strict": strict}], "tool_choice": {"type": "any"}}
        for path, asked in ((CHAT, forced), (RESPONSES, flat), (MESSAGES, native)):
            if strict:
                assert "f" in refused(target, path, {**BODIES[path], **asked})
            else:
                reply = post(target, path, {**BODIES[path], **asked})
                assert reply.status_code == 200
                assert reply.headers["x-glmserve-relaxed-schemas"] == "f: properties.a.pattern"


def test_a_regular_expression_with_two_stars(target: Target) -> None:
    """`foo**` killed vLLM's engine (vllm#17313). In Rust's syntax the second star changes nothing."""
    reply = post(target, CHAT, {**BODIES[CHAT], "max_tokens": 20, "guided_regex": "foo**"})
    assert re.fullmatch("fo+|fo*", reply.json()["choices"][0]["message"]["content"])


@pytest.mark.parametrize("kind", ["thing", 7, ["object", "x"], None, {"a": 1}, "\ud83d\ude00"])
def test_tools_of_a_type_that_there_is_not(target: Target, kind: object) -> None:
    """CVE-2025-48944: `type` in a tool's schema reached vLLM's grammar compiler unchecked."""
    schema = {"type": "object", "properties": {"a": {"type": kind}}, "required": ["a"]}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    body = {**BODIES[CHAT], "tools": [tool], "tool_choice": "required"}
    assert post(target, CHAT, body).status_code in (200, 400)


@pytest.mark.parametrize("ids", [[-1], [0, -1], [2**31], [2**63], [1664], [10**30], [1.5], [True], [[1], [-1]], [None]])
def test_ids_outside_the_vocabulary(target: Target, ids: list[object]) -> None:
    """`{"prompt":[-1]}` crashed llama-server (llama.cpp#12178)."""
    refused(target, COMPLETIONS, {**BODIES[COMPLETIONS], "prompt": ids})
    refused(target, COMPLETIONS, {**BODIES[COMPLETIONS], "prompt": ids, "echo": True, "logprobs": 1})
    refused(target, EMBEDDINGS, {**BODIES[EMBEDDINGS], "input": ids})
    refused(target, "/detokenize", {"tokens": ids})


@pytest.mark.parametrize("key", ["-1", "1664", "99999999999999999999", "1.5", "x", "", "٣", " 1", "1_0", "+1"])
def test_biases_of_tokens_that_there_are_not(target: Target, key: str) -> None:
    """An id past the vocabulary is a write past the logits, where a server believes it."""
    for path in (CHAT, COMPLETIONS):
        refused(target, path, {**BODIES[path], "logit_bias": {key: 1}})


@pytest.mark.parametrize("bias", [1e9, -1e9, "x", None, [1], True])
def test_biases_that_are_no_numbers_in_their_bounds(target: Target, bias: object) -> None:
    refused(target, CHAT, {**BODIES[CHAT], "logit_bias": {"5": bias}})


def test_more_biases_than_there_could_be_a_use_for(target: Target) -> None:
    refused(target, CHAT, {**BODIES[CHAT], "logit_bias": {str(i): 1 for i in range(5000)}})


@pytest.mark.parametrize("number", [129, 10**6, 2**31, 2**63, 10**30, -1, 0, 1.5])
def test_more_answers_than_there_are_places(target: Target, number: float) -> None:
    """`n` above the slots could never be admitted by llama-cpp-python's new server and blocked all behind it."""
    for path in (CHAT, COMPLETIONS):
        refused(target, path, {**BODIES[path], "n": number})


@pytest.mark.parametrize("value", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"1e400", b'"warm"', b"[]"])
def test_numbers_that_are_none(target: Target, value: bytes) -> None:
    """Python's parser takes NaN and Infinity, and a sampler that gets them picks tokens that do not exist."""
    for field in (b"temperature", b"top_p", b"top_k", b"min_p", b"presence_penalty", b"repetition_penalty"):
        for path in (CHAT, COMPLETIONS):
            refused(target, path, json.dumps(BODIES[path]).encode()[:-1] + b', "%s": %s}' % (field, value))


def test_numbers_that_are_none_of_the_old_contract(target: Target) -> None:
    for value in (b"NaN", b"Infinity", b"-1e999", b"-5", b"1e400"):
        for field in (b"temperature", b"top_p", b"max_length"):
            body = json.dumps(BODIES[LEGACY]).encode()[:-1] + b', "%s": %s}' % (field, value)
            assert post(target, LEGACY, body).status_code in (200, 400)


@pytest.mark.parametrize("path", BODIES)
def test_a_prompt_of_a_million_characters(target: Target, path: str) -> None:
    """Prompts past 2^31 aborted llamafile (llamafile#835); long ones overflowed the stack of std::regex
    (llama.cpp#17902). An old caller's question is cut, the others are told."""
    for text in ("a" * 10**6, "字" * 10**6, " " * 10**6, "<" * 10**6, "\x00" * 10**6, "1\n" * 500_000):
        reply = post(target, path, {**BODIES[path], **TEXT_FIELD[path](text)})
        # To an encoder of words a million letters may be one word that it does not know.
        assert reply.status_code in ((200, 400) if path == EMBEDDINGS else (400,)), reply.text[:300]


def test_many_messages_and_long_histories(target: Target) -> None:
    """270,000 empty messages in one body kept all other callers of this server waiting for 18 s."""
    many = [{"role": "user", "content": ""}] * 40_000
    assert post(target, CHAT, {"messages": many, "max_tokens": 1}).status_code == 400
    assert post(target, MESSAGES, {**BODIES[MESSAGES], "messages": many}).status_code == 400
    assert post(target, LEGACY, {"prompt": "好", "history": [["a", "b"]] * 30_000}).status_code == 200
    wide = {"type": "object", "properties": {f"p{i}": {} for i in range(60_000)}}
    assert post(target, CHAT, {**BODIES[CHAT], "guided_json": wide}).status_code == 400
    assert post(target, RESPONSES, {**BODIES[RESPONSES], "input": many}).status_code == 400
    assert post(target, COMPLETIONS, {**BODIES[COMPLETIONS], "prompt": ["a"] * 50_000}).status_code == 400
    assert post(target, EMBEDDINGS, {**BODIES[EMBEDDINGS], "input": ["a"] * 50_000}).status_code == 400


def test_an_answer_that_would_not_end(target: Target) -> None:
    """Answers without an end aborted llama-server when the context was full (llama.cpp#10380); it has no bound unless
    the caller sets one. Here the server's own bound holds, whatever is asked for."""
    endless = {"ignore_eos": True, "min_tokens": 10**9, "max_tokens": 10**9, "temperature": 0}
    reply = post(target, CHAT, {"messages": SAID, **endless})
    assert reply.status_code == 200
    assert reply.json()["choices"][0]["finish_reason"] == "length"
    assert reply.json()["usage"]["completion_tokens"] <= 300


@pytest.mark.parametrize("field", ["n_discard", "n_keep", "cache_reuse", "id_slot", "chat_parser", "samplers", "lora"])
def test_fields_of_other_servers(target: Target, field: str) -> None:
    """A negative `n_discard` was a heap overflow (CVE-2026-21869), a cyclic `chat_parser` a stack overflow
    (llama.cpp#25959). A field that is not known here reaches nothing and is named, and one that is known is refused."""
    for value in (-1, 2**63, "x", ["x"], {"x": {"x": 1}}):
        for path in SAMPLED:
            reply = post(target, path, {**BODIES[path], field: value})
            told = reply.headers.get("x-glmserve-ignored-fields") if reply.status_code == 200 else reply.text
            assert field in told, reply.text


@pytest.mark.parametrize("value", [{"tokenize": True}, {"chat_template": "{{ 1/0 }}"}, {"x": "y" * 10**5}, "x", [1]])
def test_arguments_and_texts_of_templates(target: Target, value: object) -> None:
    """`chat_template_kwargs: {"tokenize": true}` blocked vLLM (CVE-2025-62426); a caller's template is a program."""
    refused(target, CHAT, {**BODIES[CHAT], "chat_template_kwargs": value})
    refused(target, CHAT, {**BODIES[CHAT], "chat_template": "{% for i in range(10**9) %}x{% endfor %}"})


def test_penalties_together_with_drafts(target: Target) -> None:
    """Penalties together with a way to speculate killed vLLM's engine (CVE-2026-44223)."""
    repeated = "一二三四五六七八九十。" * 30
    penalties = {"repetition_penalty": 2.0, "presence_penalty": 2.0, "frequency_penalty": -2.0, "min_p": 1.0}
    body = {"messages": [{"role": "user", "content": repeated}], "max_tokens": 60, "temperature": 0, **penalties}
    assert post(target, CHAT, body).status_code == 200
    with_schema = {"response_format": {"type": "json_object"}, "logprobs": True, "top_logprobs": 20, "n": 8}
    assert post(target, CHAT, {**body, **with_schema}).status_code == 200


@pytest.mark.parametrize("path", BODIES)
def test_bodies_that_are_no_requests(target: Target, path: str) -> None:
    """Deep JSON overflows a recursive parser; a huge number takes Python a quadratic time to read."""
    for body in (
        b"", b"{", b"null", b"[]", b"1", b'"x"', b"\xff\xfe\x00", b"\xed\xa0\x80", b"[" * 200_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000, b'{"model": 1, "model": 2, "model": [' + b"1," * 9 + b"1]}",
        b'{"seed": ' + b"9" * 100_000 + b"}", b"PK\x03\x04" + bytes(1000), b"\x1f\x8b\x08" + bytes(100),
    ):  # fmt: skip
        refused(target, path, body)


@pytest.mark.parametrize("path", BODIES)
def test_halves_of_surrogate_pairs(target: Target, path: str) -> None:
    """JSON can say what UTF-8 cannot: a tokenizer or a log that gets it raises where nobody expects it."""
    for text in ("\\ud800", "\\udfff", "a\\ud83dz", "\\ud83d\\ud83d"):
        body = json.dumps({**BODIES[path], **TEXT_FIELD[path]("HERE")}).replace("HERE", text)
        refused(target, path, body.encode())


@pytest.mark.parametrize("path", BODIES)
def test_text_that_is_odd_but_text(target: Target, path: str) -> None:
    """NUL ends a C string: what stands behind it must not be lost, and nothing may break."""
    for text in ("a\x00b", "\x00", "\ufeff", "\u202e\u2066", "e" + "\u0301" * 500, "\U0010ffff", "\x1b[2J", "\r\n"):
        reply = post(target, path, {**BODIES[path], **TEXT_FIELD[path](text)})
        assert reply.status_code == 200, (text, reply.text[:300])
    counts = [len(post(target, TOKENIZE, {"prompt": text}).json()["tokens"]) for text in ("a", "a\x00b", "a\x00b\x00c")]
    assert counts == sorted(set(counts))


@pytest.mark.parametrize("path", BODIES)
def test_content_types_that_are_wrong(target: Target, path: str) -> None:
    """The body is JSON or an error, whatever it calls itself."""
    for kind in ("multipart/form-data", "text/plain; charset=utf-7", "application/xml", "x" * 3000):
        assert post(target, path, BODIES[path], headers={"Content-Type": kind}).status_code == 200


def test_a_body_that_says_it_is_packed(target: Target) -> None:
    """Unpacked, a few kilobytes may be gigabytes: nothing is unpacked."""
    import gzip

    packed = gzip.compress(json.dumps(BODIES[CHAT]).encode())
    assert post(target, CHAT, packed, headers={"Content-Encoding": "gzip"}).status_code == 415


@pytest.mark.parametrize("head", [{"X-Big": "x" * 100_000}, {f"x-{i}": "y" for i in range(2000)}], ids=["long", "many"])
def test_headers_without_measure(target: Target, head: dict[str, str]) -> None:
    """A huge header took all of vLLM's memory (CVE-2025-48956)."""
    assert post(target, CHAT, BODIES[CHAT], headers=head).status_code == 431


@pytest.mark.parametrize("path", BODIES)
def test_any_type_in_any_field(target: Target, path: str) -> None:
    """The other servers' 500s are mostly a method that a value of another type does not have."""
    values: tuple[object, ...] = ([], {}, 0, 1.5, True, "", "x" * 100_000, [[[[]]]], {"a": {"b": {}}})
    for value in values:
        for field in BODIES[path]:
            reply = post(target, path, {**BODIES[path], field: value})
            assert reply.status_code in (200, 400, 404), (field, reply.text[:300])
            assert len(reply.content) < 200_000


def test_unknown_message_roles_and_calls_to_nowhere(target: Target) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{" * 5000}}
    for messages in (
        [{"role": "\x00", "content": "x"}],
        [{"role": "tool", "content": "x", "tool_call_id": "nowhere"}],
        [{"role": "function", "name": "nowhere", "content": "x"}],
        [{"role": "assistant", "content": None, "tool_calls": [call] * 100}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}]}],
    ):
        refused(target, CHAT, {"messages": messages, "max_tokens": 1})


def test_at_the_end_no_engine_was_lost_and_nothing_is_held(target: Target) -> None:
    """After all of the above, in whatever order."""
    metrics = target.http.get("/metrics").text
    restarts = [line for line in metrics.splitlines() if line.startswith("glmserve:engine_restarts_total{")]
    assert restarts, metrics
    assert all(line.endswith(" 0.0") for line in restarts)
    wait_until(lambda: not any(_running(target)), "something still runs")


def _running(target: Target) -> list[int]:
    return [model["stats"]["running"] for model in target.http.get("/health").json()["models"]]
