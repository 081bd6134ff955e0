"""Requests to a reranker, in Jina's and Cohere's form and in vLLM's, and what is said of models of other kinds."""

import math
from collections.abc import AsyncIterator

import httpx
import pytest

from glmserve.bootstrap.app import ApiOptions, create_app
from glmserve.engine.errors import QueueFull
from glmserve.http.api_keys import ApiKeyStore, parse_keys
from glmserve.http.request_record import Limits
from glmserve.model_pool.host import ModelHost
from glmserve.model_pool.registry import ModelRegistry
from glmserve.model_pool.served_model import EmbeddingModel, ModelCard, RerankModel
from tests.support.api import MODEL, connect, served_model
from tests.support.scripted_engine import EOS, ByteTokenizer, ScriptedEngine

pytestmark = pytest.mark.anyio

SCORES, VECTORS = "scores", "vectors"
DOCUMENTS = ["bb", "dddd", "a", "ccc"]
ASK = {"model": SCORES, "query": "q", "documents": DOCUMENTS}


def registry(engine: ScriptedEngine) -> ModelRegistry:
    engine.ranks = True
    reranker = RerankModel(ModelCard(SCORES, 1_700_000_000), ModelHost(engine, ByteTokenizer))
    embedder = EmbeddingModel(ModelCard(VECTORS, 1_700_000_000), ModelHost(ScriptedEngine(), ByteTokenizer))
    return ModelRegistry([reranker, embedder, served_model(ScriptedEngine())])


@pytest.fixture
async def http(engine: ScriptedEngine) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server with a model of each kind."""
    async with connect(create_app(registry(engine))) as client:
        yield client


def encoded(query: str, document: str) -> tuple[int, ...]:
    encode = ByteTokenizer().encode
    return (EOS, *encode(query), EOS, *encode(document), EOS)


def score(query: str, document: str) -> float:
    return 1 / (1 + math.exp(4 - len(encoded(query, document)) / 8))


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank", "/v2/rerank"])
async def test_documents_come_back_in_the_order_of_their_scores(
    http: httpx.AsyncClient, engine: ScriptedEngine, path: str
) -> None:
    reply = (await http.post(path, json=ASK)).json()
    assert [one["index"] for one in reply["results"]] == [1, 3, 0, 2]
    expected = [score("q", DOCUMENTS[one["index"]]) for one in reply["results"]]
    assert [one["relevance_score"] for one in reply["results"]] == pytest.approx(expected)
    assert engine.embedded == [encoded("q", document) for document in DOCUMENTS]
    tokens = sum(map(len, engine.embedded))
    assert reply["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert reply["model"] == SCORES
    counted = {"input_tokens": tokens, "output_tokens": 0}
    assert reply["meta"] == {
        "api_version": {"version": "2"}, "billed_units": {"search_units": 1}, "tokens": counted,
    }  # fmt: skip
    assert "document" not in reply["results"][0]


async def test_only_the_best_are_returned_with_their_text_where_that_is_requested(http: httpx.AsyncClient) -> None:
    body = {**ASK, "documents": ["bb", {"text": "dddd"}, ""], "top_n": 2, "return_documents": True}
    results = (await http.post("/v1/rerank", json=body)).json()["results"]
    assert [(one["index"], one["document"]) for one in results] == [(1, {"text": "dddd"}), (0, {"text": "bb"})]


async def test_equal_documents_keep_their_order(http: httpx.AsyncClient) -> None:
    body = {**ASK, "documents": ["a", "b", "a", "b"]}
    for top_n in (99, 0, None):
        results = (await http.post("/v1/rerank", json={**body, "top_n": top_n})).json()["results"]
        assert [one["index"] for one in results] == [0, 1, 2, 3]


async def test_a_thousand_documents_are_one_request(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    body = {**ASK, "documents": ["x" * (number % 50) for number in range(1000)]}
    results = (await http.post("/v1/rerank", json=body)).json()["results"]
    assert sorted(one["index"] for one in results) == list(range(1000))
    assert len(engine.embedded) == 1000
    assert results[0]["index"] == 49


async def test_what_is_too_long_is_cut_and_the_reply_says_so(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    engine.context_length = 40
    documents = ["short", "x" * 100, "also short"]
    reply = await http.post("/v1/rerank", json={**ASK, "documents": documents})
    assert reply.headers["x-glmserve-truncated"] == "1"
    assert reply.json()["meta"]["warnings"] == [
        "longer than the model or the limit of the request allows, so the end was left out: documents 1"
    ]
    assert [len(one) for one in engine.embedded] == [len(encoded("q", "short")), 40, len(encoded("q", "also short"))]
    assert engine.embedded[1] == (*encoded("q", "x" * 100)[:39], EOS)


async def test_a_long_query_leaves_a_quarter_of_the_context_to_documents(
    http: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    engine.context_length = 43
    reply = await http.post("/v1/rerank", json={**ASK, "query": "q" * 500, "documents": ["d" * 500]})
    assert reply.headers["x-glmserve-truncated"] == "1"
    query, document = ByteTokenizer().encode("q" * 500)[:30], ByteTokenizer().encode("d" * 500)[:10]
    assert engine.embedded == [(EOS, *query, EOS, *document, EOS)]


async def test_callers_set_lower_limits(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    await http.post("/v1/rerank", json={**ASK, "documents": ["d" * 50], "max_tokens_per_doc": 4})
    await http.post("/v1/rerank", json={**ASK, "documents": ["d" * 50], "truncate_prompt_tokens": 20})
    assert [len(one) for one in engine.embedded] == [len(encoded("q", "ddd")), 20]


async def test_the_number_of_the_head_comes_on_request(http: httpx.AsyncClient) -> None:
    body = {**ASK, "documents": ["a"], "use_activation": False}
    results = (await http.post("/v1/rerank", json=body)).json()["results"]
    assert results[0]["relevance_score"] == pytest.approx(len(encoded("q", "a")) / 8 - 4)


@pytest.mark.parametrize(
    ("first", "second", "pairs"),
    [
        ("a", "b", [("a", "b")]),
        ("a", ["b", "cc"], [("a", "b"), ("a", "cc")]),
        (["a", "b"], ["c", "d"], [("a", "c"), ("b", "d")]),
        (["a"], ["c", "d"], [("a", "c"), ("a", "d")]),
    ],
)
async def test_pairs_are_scored_in_their_order(
    http: httpx.AsyncClient, first: object, second: object, pairs: list[tuple[str, str]]
) -> None:
    reply = (await http.post("/score", json={"model": SCORES, "text_1": first, "text_2": second})).json()
    assert reply["object"] == "list"
    assert [(one["index"], one["object"]) for one in reply["data"]] == [(i, "score") for i in range(len(pairs))]
    assert [one["score"] for one in reply["data"]] == pytest.approx([score(*pair) for pair in pairs])


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/rerank", {"documents": []}, "documents"),
        ("/v1/rerank", {"documents": "a"}, "documents"),
        ("/v1/rerank", {"documents": ["a", 5]}, "documents"),
        ("/v1/rerank", {"documents": [{"title": "a"}]}, "documents"),
        ("/v1/rerank", {"documents": ["a"] * 10_001}, "documents"),
        ("/v1/rerank", {"query": None}, "query"),
        ("/v1/rerank", {"query": ["a"]}, "query"),
        ("/v1/rerank", {"top_n": -1}, "top_n"),
        ("/v1/rerank", {"top_n": "many"}, "top_n"),
        ("/v1/rerank", {"rank_fields": ["title"]}, "rank_fields"),
        ("/v1/rerank", {"truncate_prompt_tokens": 4}, "truncate_prompt_tokens"),
        ("/v1/score", {"text_1": ["a", "b"], "text_2": ["c"]}, "text_1"),
        ("/v1/score", {"text_1": "a", "text_2": []}, "text_2"),
        ("/v1/score", {"text_1": "a"}, "text_2"),
    ],
)
async def test_bad_fields_are_refused_by_name(
    http: httpx.AsyncClient, engine: ScriptedEngine, path: str, body: dict[str, object], param: str
) -> None:
    reply = await http.post(path, json={**(ASK if path == "/v1/rerank" else {"model": SCORES}), **body})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)
    assert engine.embedded == []


async def test_each_kind_of_model_has_its_addresses_and_others_say_so(http: httpx.AsyncClient) -> None:
    chat = {"messages": [{"role": "user", "content": "a"}]}
    pair, silent = {"text_1": "a", "text_2": "b"}, "scores pairs of texts and does not generate text; .*"
    asked = [
        ("/v1/rerank", {**ASK, "model": MODEL}, f"generates text and is no reranker; .*: {SCORES}"),
        (
            "/v1/score",
            {**pair, "model": VECTORS},
            f"makes embeddings and is no reranker; .*: {SCORES}",
        ),
        (
            "/v1/embeddings",
            {"input": "a", "model": SCORES},
            "scores pairs of texts and makes no embeddings",
        ),
        (
            "/v1/chat/completions",
            {**chat, "model": SCORES},
            f"{silent}: {MODEL}",
        ),
        ("/v1/completions", {"prompt": "a", "model": SCORES}, silent),
        ("/tokenize", {"prompt": "a", "model": SCORES}, silent),
    ]
    for path, body, said in asked:
        reply = await http.post(path, json=body)
        assert reply.status_code == 400, path
        assert reply.json()["error"]["param"] == "model"
        with pytest.raises(AssertionError, match=said):
            raise AssertionError(reply.json()["error"]["message"])


async def test_a_request_that_names_no_model_finds_the_reranker_and_the_list_tells_its_kind(
    http: httpx.AsyncClient,
) -> None:
    assert (await http.post("/v1/rerank", json={**ASK, "model": None})).json()["model"] == SCORES
    listed = (await http.get("/v1/models")).json()["data"]
    assert {one["id"]: one["kind"] for one in listed} == {
        MODEL: "generation", SCORES: "rerank", VECTORS: "embedding"
    }  # fmt: skip
    assert [one["id"] for one in (await http.get("/v1/models?kind=rerank")).json()["data"]] == [SCORES]


async def test_a_server_without_a_reranker_says_what_it_serves() -> None:
    async with connect(create_app(ModelRegistry([served_model(ScriptedEngine())]))) as client:
        reply = await client.post("/v1/rerank", json={"query": "q", "documents": ["a"]})
        assert reply.status_code == 404
        assert reply.json()["error"]["message"] == f"no served model supports reranking; served models: {MODEL}"


async def test_an_unknown_field_is_named_in_a_header(http: httpx.AsyncClient) -> None:
    reply = await http.post("/v1/rerank", json={**ASK, "colour": "red", "max_chunks_per_doc": 10, "return_len": True})
    assert (reply.status_code, reply.headers["x-glmserve-ignored-fields"]) == (200, "colour")


async def test_a_full_queue_is_reported_with_the_time_to_wait(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    engine.reject = QueueFull(3, 7)
    reply = await http.post("/v1/rerank", json=ASK)
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "7")


async def test_tokens_count_for_the_key_and_in_the_metrics(engine: ScriptedEngine) -> None:
    keys = ApiKeyStore(parse_keys(["sk-secret-secret"], Limits(0, 50, 0), "here"))
    async with connect(create_app(registry(engine), ApiOptions(keys=keys))) as client:
        assert (await client.post("/v1/rerank", json=ASK)).status_code == 401
        client.headers["authorization"] = "Bearer sk-secret-secret"
        codes = [(await client.post("/v1/rerank", json=ASK)).status_code for _ in range(3)]
        assert codes == [200, 200, 429]
        figures = (await client.get("/metrics")).text
        tokens = 2 * sum(len(encoded("q", document)) for document in DOCUMENTS)
        assert f'prompt_tokens_total{{model_name="{SCORES}"}} {tokens}.0' in figures
