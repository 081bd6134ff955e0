"""Several models behind one address: who answers what, and what is said of those that are not loaded."""

import asyncio
import json
import threading

import httpx
import pytest
from fastapi import FastAPI

from glmserve.bootstrap.app import create_app
from glmserve.engine.errors import ModelLoadError
from glmserve.engine.interface import EngineState
from glmserve.model_pool.host import LoadPolicy, ModelHost
from glmserve.model_pool.registry import ModelRegistry
from glmserve.model_pool.served_model import ModelCard, ServedModel
from tests.support.api import NOW, connect, served_model
from tests.support.scripted_engine import ByteTokenizer, ScriptedEngine, says

pytestmark = pytest.mark.anyio

CHAT = {"messages": [{"role": "user", "content": "hi"}]}


def app(*models: ServedModel, default: str = "") -> FastAPI:
    return create_app(ModelRegistry(models, default), clock=lambda: NOW)


def model(name: str, prompt_format: str, engine: ScriptedEngine | None = None) -> ServedModel:
    return served_model(engine or ScriptedEngine(says(name)), name, f"{name}-alias", prompt_format)


def lazy(name: str, engine: ScriptedEngine, idle_seconds: float = 0.0) -> ServedModel:
    engine.state = EngineState.STOPPED
    host = ModelHost(engine, ByteTokenizer, LoadPolicy(True, idle_seconds, 5.0))
    return ServedModel(ModelCard(name, 0), host)


async def answer(http: httpx.AsyncClient, path: str) -> tuple[int, str]:
    reply = await http.post(path, json={"prompt": "hi"})
    return reply.status_code, reply.json()["response"]


async def test_each_legacy_address_is_answered_by_the_first_model_of_its_family() -> None:
    models = [model("code", "codegeex2"), model("b1", "baichuan"), model("g3", "chatglm3"), model("g2", "chatglm2")]
    async with connect(app(*models)) as http:
        assert await answer(http, "/chatglm") == (200, "g3")
        assert await answer(http, "/") == (200, "g3")
        assert await answer(http, "/baichuan") == (200, "b1")


async def test_a_default_model_answers_what_names_none_and_its_family_too() -> None:
    models = [model("g3", "chatglm3"), model("g2", "chatglm2")]
    async with connect(app(*models, default="g2-alias")) as http:
        assert await answer(http, "/chatglm") == (200, "g2")
        reply = await http.post("/v1/chat/completions", json=CHAT)
        assert reply.json()["model"] == "g2"
        assert [card["id"] for card in (await http.get("/v1/models")).json()["data"]] == ["g2", "g3"]


@pytest.mark.parametrize(
    ("served", "path"), [("chatglm2", "/baichuan"), ("baichuan", "/chatglm"), ("codegeex2", "/chatglm")]
)
async def test_an_address_that_no_model_is_for_says_what_is_served(served: str, path: str) -> None:
    async with connect(app(model("this-one", served))) as http:
        reply = await http.post(path, json={"prompt": "hi"})
    body = reply.json()
    assert reply.status_code == 404
    assert list(body) == ["response", "history", "status", "time", "error"]
    assert (body["response"], body["history"], body["status"]) == ("", [], 404)
    assert body["error"] == f"no served model supports {path}; served models: this-one"


async def test_a_model_on_first_use_is_healthy_listed_and_loaded_by_its_first_request() -> None:
    engine = ScriptedEngine(says("late"))
    async with connect(app(model("now", "chatglm2"), lazy("later", engine))) as http:
        assert (await http.get("/health")).json()["models"][1]["state"] == "idle"
        card = (await http.get("/v1/models/later")).json()
        assert (card["state"], card["context_length"], engine.starts) == ("idle", None, 0)
        reply = await http.post("/v1/chat/completions", json={**CHAT, "model": "later"})
        assert reply.json()["choices"][0]["message"]["content"] == "late"
        card = (await http.get("/v1/models/later")).json()
        assert (card["state"], card["context_length"], engine.starts) == ("ready", 4096, 1)


async def test_a_server_stays_healthy_while_a_request_has_a_model_loaded() -> None:
    """It said 503 meanwhile, by which a load balancer takes away the models that are ready."""
    may_end = threading.Event()

    def load() -> ByteTokenizer:
        may_end.wait(10)
        return ByteTokenizer()

    later = lazy("later", ScriptedEngine(says("late")))
    later = ServedModel(later.card, ModelHost(later.host.engine, load, LoadPolicy(True, 0.0, 5.0)))
    async with connect(app(model("now", "chatglm2"), later)) as http:
        asking = asyncio.ensure_future(http.post("/v1/chat/completions", json={**CHAT, "model": "later"}))
        while (health := await http.get("/health")).json()["models"][1]["state"] == "idle":
            await asyncio.sleep(0.001)
        may_end.set()
        assert (await asking).status_code == 200
    assert (health.status_code, health.json()["models"][1]["state"]) == (200, "loading")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_model_that_cannot_be_loaded_on_first_use_is_503_and_the_others_answer(stream: bool) -> None:
    engine = ScriptedEngine(says(""), load_error=ModelLoadError("no memory"))
    async with connect(app(model("now", "chatglm2"), lazy("later", engine))) as http:
        reply = await http.post("/v1/chat/completions", json={**CHAT, "model": "later", "stream": stream})
        assert (reply.status_code, reply.json()["error"]["message"]) == (503, "no memory")
        assert int(reply.headers["retry-after"]) > 0
        health = await http.get("/health")
        assert (health.status_code, health.json()["reason"]) == (503, "no memory")
        assert (await http.post("/v1/chat/completions", json=CHAT)).status_code == 200


async def stopped(engine: ScriptedEngine) -> None:
    for _ in range(5000):
        if engine.state is EngineState.STOPPED:
            return
        await asyncio.sleep(0.001)
    raise AssertionError(f"the engine is {engine.state}")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_running_answer_keeps_its_model_loaded(stream: bool) -> None:
    engine = ScriptedEngine(says("好" * 60), step_seconds=0.01, per_step=1)
    async with connect(app(lazy("m", engine, idle_seconds=0.02))) as http:
        reply = await http.post("/v1/chat/completions", json={**CHAT, "stream": stream})
        assert reply.text.count("好") == 60
        await stopped(engine)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chatglm"])
async def test_a_refused_request_leaves_its_model_free_to_be_unloaded(path: str) -> None:
    engine = ScriptedEngine(says("x"), context_length=100)
    async with connect(app(lazy("m", engine, idle_seconds=0.01))) as http:
        body = {"prompt": "x" * 500, "messages": [{"role": "user", "content": "x" * 500}]}
        fields = ("prompt",) if path == "/chatglm" else ("messages",)
        reply = await http.post(path, json={name: body[name] for name in fields})
        assert reply.status_code == 400
        await stopped(engine)


async def test_adapters_answer_under_their_own_names_from_the_engine_of_their_parent() -> None:
    engine = ScriptedEngine(reply=lambda asked: asked.adapter or "plain", prefix_tokens={"tuned": 96})
    host = ModelHost(engine, ByteTokenizer)
    base = ModelCard("base", 0, aliases=("b",))
    models = [ServedModel(base, host), ServedModel(ModelCard("tuned", 0, parent="base"), host)]
    async with connect(app(*models)) as http:
        for name, text in (("base", "plain"), ("b", "plain"), ("tuned", "tuned"), (None, "plain")):
            reply = await http.post("/v1/chat/completions", json={**CHAT, "model": name})
            assert reply.json()["choices"][0]["message"]["content"] == text
        cards = (await http.get("/v1/models")).json()["data"]
        assert [(card["id"], card["parent"], card["context_length"]) for card in cards] == [
            ("base", None, 4096),
            ("tuned", "base", 4000),
        ]
    assert engine.starts == 1


async def test_an_adapters_prefix_takes_its_room_from_the_answer() -> None:
    engine = ScriptedEngine(prefix_tokens={"tuned": 96})
    host = ModelHost(engine, ByteTokenizer)
    models = [ServedModel(ModelCard("base", 0), host), ServedModel(ModelCard("tuned", 0, parent="base"), host)]
    async with connect(app(*models, default="tuned")) as http:
        await http.post("/v1/chat/completions", json={**CHAT, "max_tokens": 100000})
        await http.post("/v1/chat/completions", json={**CHAT, "max_tokens": 100000, "model": "base"})
        await http.post("/chatglm", json={"prompt": "hi", "max_length": 100000})
    tuned, plain, legacy = (one.params.max_tokens + len(one.prompt_ids) for one in engine.submissions)
    assert (tuned, plain, legacy) == (4000, 4096, 4000)


@pytest.mark.parametrize("stream", [False, True])
async def test_the_blank_line_that_chatglm3_opens_with_is_not_part_of_the_answer(stream: bool) -> None:
    engine = ScriptedEngine(says("\n 你好\n"), per_step=1)
    async with connect(app(model("g3", "chatglm3", engine), model("g2", "chatglm2", engine))) as http:
        reply = await http.post("/v1/chat/completions", json={**CHAT, "stream": stream})
        plain = await http.post("/v1/chat/completions", json={**CHAT, "model": "g2"})
    assert plain.json()["choices"][0]["message"]["content"] == "\n 你好\n"
    if not stream:
        assert reply.json()["choices"][0]["message"]["content"] == "你好\n"
    else:
        chunks = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: {")]
        assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "你好\n"
