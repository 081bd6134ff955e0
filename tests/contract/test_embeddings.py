"""Requests for embeddings through the official client, and what is said of models of the other kind."""

import base64

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from openai import AsyncOpenAI, BadRequestError, RateLimitError

from glmserve.bootstrap.app import ApiOptions, create_app
from glmserve.engine.errors import QueueFull
from glmserve.http.request_record import Limits
from glmserve.model_pool.host import ModelHost
from glmserve.model_pool.registry import ModelRegistry
from glmserve.model_pool.served_model import EmbeddingModel, ModelCard
from tests.support.api import MODEL, connect, served_model
from tests.support.scripted_engine import EOS, ByteTokenizer, ScriptedEngine

pytestmark = pytest.mark.anyio

VECTORS = "vectors"


@pytest.fixture
def app(engine: ScriptedEngine) -> FastAPI:
    """A model of each kind."""
    embedder = EmbeddingModel(ModelCard(VECTORS, 1_700_000_000), ModelHost(engine, ByteTokenizer))
    return create_app(ModelRegistry([embedder, served_model(ScriptedEngine())]))


async def refused(openai: AsyncOpenAI, **body: object) -> str | None:
    with pytest.raises(BadRequestError) as caught:
        await openai.embeddings.create(model=VECTORS, input="a", extra_body=body)
    return caught.value.param


async def test_texts_are_framed_and_ids_are_not(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    await openai.embeddings.create(model=VECTORS, input="a")
    await openai.embeddings.create(model=VECTORS, input=[[7, 8], [9]])
    assert engine.embedded == [(EOS, *ByteTokenizer().encode("a"), EOS), (7, 8), (9,)]


async def test_the_client_reads_its_base64(openai: AsyncOpenAI) -> None:
    reply = await openai.embeddings.create(model=VECTORS, input=[[7, 8], [9]])
    assert [item.embedding for item in reply.data] == [pytest.approx([0.6, -0.8, 0, size]) for size in (2, 1)]
    assert (reply.object, reply.model) == ("list", VECTORS)
    assert (reply.usage.prompt_tokens, reply.usage.total_tokens) == (3, 3)


async def test_base64_is_little_endian_float32(http: httpx.AsyncClient) -> None:
    body = {"model": VECTORS, "input": [7], "encoding_format": "base64"}
    text = (await http.post("/v1/embeddings", json=body)).json()["data"][0]["embedding"]
    assert np.frombuffer(base64.b64decode(text), "<f4").tolist() == pytest.approx([0.6, -0.8, 0, 1])


async def test_dimensions_are_cut_and_brought_to_length_one(openai: AsyncOpenAI) -> None:
    reply = await openai.embeddings.create(model=VECTORS, input=[7], dimensions=2)
    assert reply.data[0].embedding == pytest.approx([0.6, -0.8])
    assert await refused(openai, dimensions=5) == "dimensions"


@pytest.mark.parametrize(
    "value", [[], [[]], [1, "a"], ["a", None], [True], {}, [512], [-1], "a" * 5000, ["a"] * 2049, [[1.5]]]
)
async def test_bad_inputs_are_refused_by_name(openai: AsyncOpenAI, engine: ScriptedEngine, value: object) -> None:
    assert await refused(openai, input=value) == "input"
    assert engine.embedded == []


@pytest.mark.parametrize(("name", "value"), [("encoding_format", "int8"), ("dimensions", 0), ("input_type", "query")])
async def test_other_fields_are_refused_by_name(openai: AsyncOpenAI, name: str, value: object) -> None:
    assert await refused(openai, **{name: value}) == name


async def test_a_model_of_the_other_kind_is_refused_and_the_right_one_named(openai: AsyncOpenAI) -> None:
    with pytest.raises(BadRequestError, match=f"makes no embeddings; served models that do: {VECTORS}"):
        await openai.embeddings.create(model=MODEL, input="a")
    with pytest.raises(BadRequestError, match=f"does not generate text; served models that do: {MODEL}"):
        await openai.chat.completions.create(model=VECTORS, messages=[{"role": "user", "content": "a"}])


async def test_models_are_listed_with_their_kind(http: httpx.AsyncClient) -> None:
    models = (await http.get("/v1/models")).json()["data"]
    assert {model["id"]: model["kind"] for model in models} == {VECTORS: "embedding", MODEL: "generation"}
    assert (await http.get(f"/v1/models/{VECTORS}")).json()["kind"] == "embedding"


async def test_a_model_that_makes_vectors_is_not_the_default(http: httpx.AsyncClient) -> None:
    """It was listed first where its table came first, and clients that talk to the first model got a 400."""
    assert [model["id"] for model in (await http.get("/v1/models")).json()["data"]] == [MODEL, VECTORS]


async def test_inputs_count_as_tokens_of_the_key(engine: ScriptedEngine) -> None:
    """They did not, so that a budget in tokens bounded chats alone."""
    embedder = EmbeddingModel(ModelCard(VECTORS, 1_700_000_000), ModelHost(engine, ByteTokenizer))
    app = create_app(ModelRegistry([embedder]), ApiOptions(limits=Limits(tokens_per_minute=3)))
    async with connect(app) as http:
        replies = [await http.post("/v1/embeddings", json={"input": [[7, 8], [9]]}) for _ in range(2)]
    assert [reply.status_code for reply in replies] == [200, 429]


async def test_a_full_queue_is_reported(openai: AsyncOpenAI, engine: ScriptedEngine) -> None:
    engine.reject = QueueFull(64)
    with pytest.raises(RateLimitError):
        await openai.embeddings.create(model=VECTORS, input="a")


async def test_without_a_model_for_it_the_address_says_so() -> None:
    app = create_app(ModelRegistry([served_model(ScriptedEngine())]))
    async with connect(app) as http:
        reply = await http.post("/v1/embeddings", json={"input": "a"})
    assert reply.status_code == 404
    assert reply.json()["error"]["code"] == "route_not_served"
