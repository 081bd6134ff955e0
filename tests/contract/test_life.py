"""From loading to stopped, as seen from outside."""

import asyncio
import logging

import httpx
import pytest
from fastapi import FastAPI

from glmserve.bootstrap.app import create_app
from glmserve.engine.errors import EngineUnavailable, ModelLoadError
from glmserve.engine.interface import EngineState
from glmserve.model_pool.host import ModelHost
from glmserve.model_pool.registry import ModelRegistry
from glmserve.model_pool.served_model import ModelCard, ServedModel
from tests.support.api import connect, make_app, served_model
from tests.support.scripted_engine import ByteTokenizer, ScriptedEngine

pytestmark = pytest.mark.anyio

CHAT = {"messages": [{"role": "user", "content": "hi"}]}


async def until(http: httpx.AsyncClient, state: str) -> httpx.Response:
    for _ in range(2000):
        reply = await http.get("/health")
        if reply.json()["status"] == state:
            return reply
        await asyncio.sleep(0.001)
    raise AssertionError(f"never became {state}: {reply.text}")


async def test_until_the_model_is_loaded_everything_says_503_and_then_it_answers() -> None:
    loaded = asyncio.Event()
    async with connect(make_app(ScriptedEngine(loaded=loaded)), loaded=False) as http:
        health = await http.get("/health")
        assert health.status_code == 503
        assert health.json()["reason"] == "the model is loading"
        for path, body in (("/v1/chat/completions", CHAT), ("/chatglm", {"prompt": "x"})):
            for stream in (False, True):
                reply = await http.post(path, json={**body, "stream": stream})
                assert reply.status_code == 503
                assert int(reply.headers["retry-after"]) > 0
        assert (await http.get("/v1/models")).json()["data"][0]["context_length"] is None
        loaded.set()
        assert (await until(http, "ok")).status_code == 200
        assert (await http.post("/v1/chat/completions", json=CHAT)).status_code == 200


async def test_health_tells_what_the_engine_does() -> None:
    async with connect(make_app(ScriptedEngine())) as http:
        assert (await http.head("/health")).status_code == 200
        model = (await http.get("/health")).json()["models"][0]
    assert model["stats"]["running"] == 0
    assert model["engine"]["context_length"] == 4096


async def test_a_model_that_cannot_be_loaded_leaves_a_server_that_says_so() -> None:
    engine = ScriptedEngine(load_error=ModelLoadError("two tokens are equal"))
    async with connect(make_app(engine), loaded=False) as http:
        health = await until(http, "failed")
        assert health.status_code == 503
        assert health.json()["reason"] == "two tokens are equal"
        assert (await http.post("/v1/chat/completions", json=CHAT)).status_code == 503


async def test_a_tokenizer_that_cannot_be_loaded_is_a_failed_model() -> None:
    def broken() -> ByteTokenizer:
        raise OSError("no such vocabulary")

    model = ServedModel(ModelCard("m", 0), ModelHost(ScriptedEngine(), broken))
    async with connect(create_app(ModelRegistry([model])), loaded=False) as http:
        assert "no such vocabulary" in (await until(http, "failed")).json()["reason"]


async def test_slow_loading_is_waited_for_as_long_as_the_engine_keeps_trying() -> None:
    class Slow(ScriptedEngine):
        tries = 0

        async def wait_ready(self, timeout: float) -> None:
            self.tries += 1
            if self.tries < 3:
                raise EngineUnavailable("still loading")
            await super().wait_ready(timeout)

    async with connect(make_app(Slow())) as http:
        assert (await http.post("/v1/chat/completions", json=CHAT)).status_code == 200


async def test_an_engine_that_restarts_makes_health_503_and_back() -> None:
    engine = ScriptedEngine()
    async with connect(make_app(engine)) as http:
        engine.state, engine.reason = EngineState.RESTARTING, "the engine process was killed"
        health = await http.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "restarting")
        engine.state = EngineState.READY
        assert (await http.get("/health")).status_code == 200


async def test_the_end_of_the_application_stops_the_engines_even_while_loading() -> None:
    for loaded in (None, asyncio.Event()):
        engine = ScriptedEngine(loaded=loaded)
        async with connect(make_app(engine), loaded=loaded is None):
            pass
        assert engine.state is EngineState.STOPPED


async def test_a_server_that_is_stopped_while_it_loads_reports_no_model_as_faulty(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nor does one that was stopped before it answered: the registry alone ends what it began."""
    registry = ModelRegistry([served_model(ScriptedEngine(loaded=asyncio.Event()))])
    loading = registry.begin()
    await asyncio.sleep(0)
    await registry.stop()
    assert loading.done()
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_the_first_model_is_the_default_and_each_is_found_by_its_name() -> None:
    first, second = ScriptedEngine(reply=lambda _: "one"), ScriptedEngine(reply=lambda _: "two")
    app: FastAPI = create_app(ModelRegistry([served_model(first), served_model(second, name="org/other", alias="o")]))
    async with connect(app) as http:
        for name, text in ((None, "one"), ("org/other", "two"), ("o", "two")):
            reply = await http.post("/v1/chat/completions", json={**CHAT, "model": name})
            assert reply.json()["choices"][0]["message"]["content"] == text
        assert (await http.get("/v1/models/org/other")).json()["id"] == "org/other"


def test_names_are_unique() -> None:
    with pytest.raises(ValueError, match="two served models have the name"):
        ModelRegistry([served_model(ScriptedEngine()), served_model(ScriptedEngine())])
    with pytest.raises(ValueError, match="at least one"):
        ModelRegistry([])
