"""POST /chatglm and POST /, as programs written for the original call them."""

import json

import httpx
import pytest

from glmserve.bootstrap.app import ApiOptions
from glmserve.engine.errors import DecodeFailed, EngineDied, QueueFull
from tests.support.api import connect, make_app
from tests.support.scripted_engine import ScriptedEngine

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("path", ["/chatglm", "/"])]

TIME = "2023-07-25 09:47:00"


async def test_the_answer_has_the_four_keys_in_their_order(http: httpx.AsyncClient, path: str) -> None:
    reply = await http.post(path, json={"prompt": "你好", "history": []})
    assert reply.content.decode() == (
        f'{{"response":"你问的是：你好","history":[["你好","你问的是：你好"]],"status":200,"time":"{TIME}"}}'
    )


async def test_the_history_comes_back_as_it_was_with_the_new_round(
    http: httpx.AsyncClient, engine: ScriptedEngine, path: str
) -> None:
    history = [[None, "a"], ["b"], ["c", "d"]]
    reply = await http.post(path, json={"prompt": "e", "history": history})
    assert reply.json()["history"] == [*history, ["e", "你问的是：e"]]
    assert engine.submissions[0].prompt == (
        "[Round 1]\n\n问：None\n\n答：a\n\n[Round 2]\n\n问：b\n\n答：\n\n"
        "[Round 3]\n\n问：c\n\n答：d\n\n[Round 4]\n\n问：e\n\n答："
    )


async def test_a_history_of_messages_comes_back_as_messages(
    http: httpx.AsyncClient, engine: ScriptedEngine, path: str
) -> None:
    history = [{"role": "user", "content": "a"}, {"role": "assistant", "metadata": "", "content": "b"}]
    reply = await http.post(path, json={"prompt": "c", "history": history})
    assert engine.submissions[-1].prompt == "[Round 1]\n\n问：a\n\n答：b\n\n[Round 2]\n\n问：c\n\n答："
    grown = reply.json()["history"]
    assert grown == [
        *history,
        {"role": "user", "content": "c"},
        {"role": "assistant", "metadata": "", "content": "你问的是：c"},
    ]
    assert (await http.post(path, json={"prompt": "d", "history": grown})).status_code == 200


async def test_empty_values_mean_the_originals_defaults(
    http: httpx.AsyncClient, engine: ScriptedEngine, path: str
) -> None:
    await http.post(path, json={"prompt": "", "history": [], "max_length": "", "top_p": "", "temperature": ""})
    submission = engine.submissions[0]
    params = submission.params
    assert (params.temperature, params.top_p, params.top_k) == (0.95, 0.7, 50)
    assert params.max_tokens == 2048 - len(submission.prompt_ids)
    assert params.repetition_penalty == 1.0


@pytest.mark.parametrize(("max_length", "answer_tokens"), [(100, 69), ("100", 69), (20000, 4065), (5, 1), (-3, 1)])
async def test_max_length_counts_prompt_and_answer_and_leaves_a_token_at_least(
    http: httpx.AsyncClient, engine: ScriptedEngine, path: str, max_length: object, answer_tokens: int
) -> None:
    reply = await http.post(path, json={"prompt": "你", "max_length": max_length})
    assert reply.status_code == 200
    assert len(engine.submissions[0].prompt_ids) == 31
    assert engine.submissions[0].params.max_tokens == answer_tokens


LONG = {"history": [["q", "x" * 2100]]}
"""The tokenizer of these tests has a token for each byte: more than the default max_length."""


@pytest.mark.parametrize(
    ("fields", "answer_tokens"),
    [({}, 512), ({"max_length": 1000}, 250), ({"max_length": 3}, 1), ({"max_length": 2700}, 2700 - 2159)],
)
async def test_a_history_that_fills_max_length_leaves_room_for_an_answer(
    http: httpx.AsyncClient, engine: ScriptedEngine, path: str, fields: dict[str, int], answer_tokens: int
) -> None:
    """In the original the answer was one character."""
    assert (await http.post(path, json={"prompt": "你", **LONG, **fields})).status_code == 200
    assert len(engine.submissions[0].prompt_ids) == 2159
    assert engine.submissions[0].params.max_tokens == answer_tokens


async def test_the_room_is_that_of_the_context_at_most(
    http: httpx.AsyncClient, engine: ScriptedEngine, path: str
) -> None:
    engine.context_length = 2300
    await http.post(path, json={"prompt": "x" * 2000, "max_length": 2100})
    submission = engine.submissions[0]
    assert submission.params.max_tokens == 2300 - len(submission.prompt_ids) < 512


async def test_the_originals_way_is_a_setting(engine: ScriptedEngine, path: str) -> None:
    async with connect(make_app(engine, ApiOptions(legacy_room=False))) as http:
        assert (await http.post(path, json={"prompt": "你", **LONG})).status_code == 200
    assert engine.submissions[0].params.max_tokens == 1


async def test_a_history_past_the_context_loses_its_oldest_rounds_whole(
    http: httpx.AsyncClient, engine: ScriptedEngine, path: str
) -> None:
    engine.context_length = 400
    history = [[f"q{i}", "x" * 50] for i in range(20)]
    reply = await http.post(path, json={"prompt": "last", "history": history})
    assert reply.json()["history"] == [*history, ["last", "你问的是：last"]]
    prompt = engine.submissions[0].prompt
    assert prompt.startswith("[Round 1]\n\n问：q17\n\n答：xxx")
    assert prompt.endswith("[Round 4]\n\n问：last\n\n答：")


async def test_a_conversation_past_the_context_begins_alike_for_several_requests(
    http: httpx.AsyncClient, engine: ScriptedEngine, path: str
) -> None:
    """Dropping one round more in each request left nothing of the prompt in the cache."""
    engine.context_length = 1500
    for length in range(20, 52):
        history = [[f"q{i}", "x" * 50] for i in range(length)]
        assert (await http.post(path, json={"prompt": "last", "history": history})).status_code == 200
    first_rounds = [submission.prompt.partition("答")[0] for submission in engine.submissions]
    assert len(set(first_rounds)) <= 32 / 4 + 1
    assert all("[Round 7]" in submission.prompt for submission in engine.submissions)


async def test_an_enormous_history_is_cut_without_tokenising_all_of_it(
    http: httpx.AsyncClient, engine: ScriptedEngine, path: str
) -> None:
    history = [["q", "x" * 1000] for _ in range(3000)]
    assert (await http.post(path, json={"prompt": "last", "history": history})).status_code == 200
    assert "问：last" in engine.submissions[0].prompt


async def test_a_question_past_the_context_is_refused(
    http: httpx.AsyncClient, engine: ScriptedEngine, path: str
) -> None:
    engine.context_length = 400
    reply = await http.post(path, json={"prompt": "x" * 500, "history": [["a", "b"]]})
    assert_legacy_error(reply, 400, "and the context 400")


async def test_the_answer_is_post_processed_as_it_was(
    http: httpx.AsyncClient, engine: ScriptedEngine, path: str
) -> None:
    engine.reply = lambda _: " \n截至[[训练时间]]。\n "
    assert (await http.post(path, json={"prompt": "x"})).json()["response"] == "截至2023年。"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_the_content_type_does_not_matter(http: httpx.AsyncClient, path: str, kind: str) -> None:
    body = json.dumps({"prompt": "x"})
    assert (await http.post(path, content=body, headers={"Content-Type": kind})).status_code == 200


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("", "not valid JSON"),
        ("hello", "not valid JSON"),
        ("[]", "must be a JSON object"),
        ("{}", "prompt must be a string"),
        ('{"prompt": null}', "prompt must be a string"),
        ('{"prompt": ["x"]}', "prompt must be a string"),
        ('{"prompt": "\\ud800"}', "prompt is not valid text"),
        ('{"prompt": "x", "history": "y"}', "history must be a list"),
        ('{"prompt": "x", "history": ["y", "z"]}', "history[0] must be a"),
        ('{"prompt": "x", "history": [["y", "z", "w"]]}', "history[0] must be a"),
        ('{"prompt": "x", "temperature": "warm"}', "temperature must be a number"),
        ('{"prompt": "x", "top_p": -1}', "top_p must not be negative"),
        ('{"prompt": "x", "history": [[1e999, "a"]]}', "history[0][0]"),
    ],
)
async def test_where_the_original_crashed_a_400_has_the_keys_callers_read(
    http: httpx.AsyncClient, path: str, body: str, told: str
) -> None:
    assert_legacy_error(await http.post(path, content=body), 400, told)


async def test_of_a_key_that_is_there_twice_the_last_one_counts(http: httpx.AsyncClient, path: str) -> None:
    reply = await http.post(path, content='{"prompt": "a", "prompt": "b"}')
    assert reply.json()["response"] == "你问的是：b"


async def test_a_full_queue_is_429_with_retry_after(http: httpx.AsyncClient, engine: ScriptedEngine, path: str) -> None:
    engine.reject = QueueFull(waiting=9, retry_after=3)
    reply = await http.post(path, json={"prompt": "x"})
    assert_legacy_error(reply, 429, "with 9 requests waiting")
    assert reply.headers["retry-after"] == "3"


@pytest.mark.parametrize(
    ("failure", "status"), [(EngineDied("gone"), 503), (DecodeFailed("no"), 500), (RuntimeError("secret"), 500)]
)
async def test_a_failing_engine_is_reported_in_the_same_format(
    http: httpx.AsyncClient, engine: ScriptedEngine, path: str, failure: Exception, status: int
) -> None:
    engine.fail = failure
    reply = await http.post(path, json={"prompt": "x"})
    assert_legacy_error(reply, status, "")
    assert "secret" not in reply.text
    assert engine.running == 0


def assert_legacy_error(reply: httpx.Response, status: int, told: str) -> None:
    assert reply.status_code == status
    body = reply.json()
    assert list(body) == ["response", "history", "status", "time", "error"]
    assert (body["response"], body["history"], body["status"], body["time"]) == ("", [], status, TIME)
    assert told in body["error"]


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN"])
async def test_a_history_so_long_that_its_oldest_rounds_are_not_looked_at(
    http: httpx.AsyncClient, path: str, number: str
) -> None:
    """One of them with a number that JSON cannot say came back in the reply, which was a 500."""
    rounds = ",".join([f'["q",{number}]', *['["a","b"]'] * 20_001])
    reply = await http.post(path, content=f'{{"prompt": "x", "history": [{rounds}]}}')
    assert_legacy_error(reply, 400, "number")
    rounds = ",".join(['["a","b"]'] * 20_001)
    reply = await http.post(path, content=f'{{"prompt": "x", "history": [{rounds}]}}')
    assert reply.status_code == 200
    assert len(reply.json()["history"]) == 20_002
