"""POST /baichuan, as the script of the original deployment calls it."""

from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest

from glmserve.bootstrap.app import create_app
from glmserve.model_pool.host import ModelHost
from glmserve.model_pool.registry import ModelRegistry
from glmserve.model_pool.served_model import ModelCard, ServedModel
from glmserve.models.catalog import find
from tests.support.api import NOW, connect
from tests.support.scripted_engine import EOS, ByteTokenizer, ScriptedEngine

pytestmark = pytest.mark.anyio

USER, ASSISTANT = 302, 303


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine(reply=lambda _: "好的。")


@pytest.fixture
async def http(engine: ScriptedEngine) -> AsyncIterator[httpx.AsyncClient]:
    entry = find("baichuan-13b-chat")
    assert entry is not None
    card = ModelCard(entry.name, 0, prompt_format=entry.prompt_format, defaults=entry.defaults)
    served = ServedModel(card, ModelHost(engine, ByteTokenizer))
    async with connect(create_app(ModelRegistry([served]), clock=lambda: NOW)) as client:
        yield client


async def test_the_body_of_the_original_script_is_answered_in_the_shape_of_chatglm(http: httpx.AsyncClient) -> None:
    reply = await http.post("/baichuan", json={"prompt": ""})
    assert reply.content.decode() == (
        '{"response":"好的。","history":[["","好的。"]],"status":200,"time":"2023-07-25 09:47:00"}'
    )


async def test_what_is_absent_is_as_baichuans_own_code_has_it(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    await http.post("/baichuan", json={"prompt": "你好", "history": [], "temperature": "", "top_p": 0})
    params = engine.submissions[0].params
    assert (params.temperature, params.top_k, params.top_p, params.repetition_penalty) == (0.3, 5, 0.85, 1.1)
    assert params.max_tokens == 2048


async def test_the_fields_of_chatglm_count(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    body = {"prompt": "c", "history": [["a", "b"]], "temperature": 0.5, "top_p": "0.6", "max_length": 100}
    reply = await http.post("/baichuan", json=body)
    submission, encode = engine.submissions[0], ByteTokenizer().encode
    assert submission.prompt_ids == (USER, *encode("a"), ASSISTANT, *encode("b"), EOS, USER, *encode("c"), ASSISTANT)
    assert (submission.params.temperature, submission.params.top_p) == (0.5, 0.6)
    assert submission.params.max_tokens == 100 - len(submission.prompt_ids)
    assert reply.json()["history"] == [["a", "b"], ["c", "好的。"]]


async def test_the_answer_is_handed_out_as_it_is(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    engine.reply = lambda _: "a [[训练时间]]\n"
    assert (await http.post("/baichuan", json={"prompt": "x"})).json()["response"] == "a [[训练时间]]\n"


@pytest.mark.parametrize("body", ["{}", '{"prompt": 1}', "[]", "x"])
async def test_a_bad_body_is_reported_with_the_keys_callers_read(http: httpx.AsyncClient, body: str) -> None:
    reply = await http.post("/baichuan", content=body)
    assert reply.status_code == 400
    assert list(reply.json()) == ["response", "history", "status", "time", "error"]


async def test_other_methods_are_refused(http: httpx.AsyncClient) -> None:
    assert (await http.get("/baichuan")).status_code == 405


def test_the_sequel_has_its_own_penalty() -> None:
    first, second = find("baichuan-13b-chat"), find("baichuan2-13b-chat")
    assert first is not None
    assert second is not None
    assert second.defaults == replace(first.defaults, repetition_penalty=1.05)
