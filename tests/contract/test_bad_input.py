"""Whatever is sent, a 4xx in the envelope says what was wrong with it."""

from collections.abc import AsyncIterator

import httpx
import pytest

from glmserve.bootstrap.app import ApiOptions
from tests.support.api import connect, make_app
from tests.support.scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
MESSAGES = '"messages":[{"role":"user","content":"hi"}]'


def error_of(reply: httpx.Response) -> dict[str, object]:
    assert set(reply.json()) == {"error"}
    error: dict[str, object] = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "not valid JSON"),
        (b"hello", "not valid JSON"),
        (b'{"model":', "not valid JSON"),
        (b"[1]", "must be a JSON object, not an array"),
        (b"null", "must be a JSON object, not null"),
        (b'"x"', "must be a JSON object, not a string"),
        (b"\xff\xfe\xff", "not valid UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "not valid UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"messages":' * 40_000, "nested too deeply"),
        (b'{"messages":' * 100_000, "exceeds the limit"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "too many digits"),
        (b'{"temperature": NaN}', "NaN is not a number"),
        (b'{"temperature": -Infinity}', "-Infinity is not a number"),
        (b'{"n": 1, "n": 2}', "n appears twice"),
        (b'{"\\ud800": 1, "\\ud800": 2}', "appears twice"),
    ],
)
async def test_a_body_that_is_no_json_object_is_refused(http: httpx.AsyncClient, body: bytes, told: str) -> None:
    reply = await http.post(CHAT, content=body)
    assert reply.status_code == 400
    assert told in str(error_of(reply)["message"])


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ('"messages":[{"role":"user","content":"a\\ud800b"}]', "messages[0].content"),
        (MESSAGES + ',"stop":["\\udfff"]', "stop[0]"),
        (MESSAGES + ',"model":"\\ud83d"', "model"),
        (MESSAGES + ',"\\ud83d":1', "\\ud83d"),
        (MESSAGES + ',"temperature":1e999', "temperature"),
    ],
)
async def test_what_is_no_text_or_no_number_is_refused_by_its_path(
    http: httpx.AsyncClient, fields: str, param: str
) -> None:
    reply = await http.post(CHAT, content="{" + fields + "}")
    assert reply.status_code == 400
    assert error_of(reply)["param"] == param


@pytest.mark.parametrize(
    "fields",
    [
        '"model":"%s"' % ("x" * 10**6),
        '"%s":1,"%s":2' % (("x" * 10**6,) * 2),
        '"\\ud800%s":1' % ("x" * 10**6),
        '"messages":[{"role":"user","content":[{"type":"%s"}]}]' % ("x" * 10**6),
        '"messages":[{"role":"user","content":[{"type":%s}]}]' % ("[" * 400 + "]" * 400),
        '"messages":[{"role":"%s"}]' % ("x" * 10**6),
        '"stop":{"%s":1}' % ("x" * 10**6),
    ],
)
async def test_what_is_quoted_of_a_huge_value_is_short(http: httpx.AsyncClient, fields: str) -> None:
    rest = "" if fields.startswith('"messages"') else "," + MESSAGES
    reply = await http.post(CHAT, content="{" + fields + rest + "}")
    assert reply.status_code in (400, 404)
    assert len(reply.content) < 1000


async def test_a_surrogate_pair_is_a_character(http: httpx.AsyncClient) -> None:
    body = '{"messages":[{"role":"user","content":"\\ud83d\\ude00"}]}'
    reply = await http.post(CHAT, content=body)
    assert reply.json()["choices"][0]["message"]["content"] == "你问的是：😀"


@pytest.mark.parametrize("text", ["a\x00b", "[gMASK]sop</s>", "<|user|>", "\ufeff", "\u202e"])
async def test_odd_text_is_answered_as_the_text_it_is(http: httpx.AsyncClient, text: str) -> None:
    reply = await http.post(CHAT, json={"messages": [{"role": "user", "content": text}]})
    assert reply.json()["choices"][0]["message"]["content"] == f"你问的是：{text}"


@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded", "text/plain", ""])
async def test_the_content_type_does_not_matter(http: httpx.AsyncClient, kind: str) -> None:
    reply = await http.post(CHAT, content="{" + MESSAGES + "}", headers={"Content-Type": kind})
    assert reply.status_code == 200


@pytest.mark.parametrize("path", [CHAT, "/chatglm"])
@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_past_the_limit_is_refused_whether_it_says_so_or_not(path: str, declared: bool) -> None:
    async def unsized() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"x" * 200

    async with connect(make_app(ScriptedEngine(), ApiOptions(max_body_bytes=1000))) as http:
        reply = await http.post(path, content=b"x" * 2000 if declared else unsized())
        assert reply.status_code == 413
        assert "1000 bytes" in reply.text
        fits = "{" + MESSAGES + ',"prompt":"x"}' if path == "/chatglm" else "{" + MESSAGES + "}"
        assert (await http.post(path, content=fits)).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("POST", "/v1/nowhere", 404),
        ("GET", CHAT, 405),
        ("GET", "/chatglm", 405),
        ("PUT", "/health", 405),
        ("GET", "/v1/models/nobody/nothing", 404),
        ("GET", "/docs/nowhere", 404),
    ],
)
async def test_a_wrong_address_or_method_gets_the_envelope_too(
    http: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    reply = await http.request(method, path)
    assert reply.status_code == status
    assert error_of(reply)["type"] == "invalid_request_error"
    assert ("allow" in reply.headers) == (status == 405)


async def test_an_unexpected_error_says_nothing_of_itself_but_is_logged(
    http: httpx.AsyncClient, engine: ScriptedEngine, caplog: pytest.LogCaptureFixture
) -> None:
    engine.reject = RuntimeError("secret")
    reply = await http.post(CHAT, content="{" + MESSAGES + "}")
    assert reply.status_code == 500
    assert error_of(reply)["code"] == "internal_error"
    assert "secret" not in reply.text
    assert "secret" in caplog.text
