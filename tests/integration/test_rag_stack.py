"""One command for a chat model, an embedding model and a reranker, each by its name."""

import math
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from glmserve.chat.tokenizer.encoder_tokenizer import load_encoder_tokenizer
from glmserve.convert.pipeline import convert_checkpoint
from glmserve.convert.quantize.recipes import QuantType
from tests.conftest import running_server
from tests.support.encoders import random_encoder, write_encoder

VECTORS, SCORES = random_encoder("bert", "cls"), random_encoder("xlm-roberta", "rank")
NAMES = ("chatglm2-6b", "bge-large-zh", "bge-reranker-base")


@pytest.fixture(scope="module")
def cache(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder as ``glmserve pull`` fills it."""
    folder = tmp_path_factory.mktemp("pulled")
    (folder / "chatglm2-6b.q4_k_m.gguf").symlink_to(tiny_gguf)
    for name, made in zip(NAMES[1:], (VECTORS, SCORES), strict=True):
        convert_checkpoint(write_encoder(folder / name, made), folder / f"{name}.q8_0.gguf", QuantType.F32)
    return folder


@pytest.fixture(scope="module")
def http(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    log = tmp_path_factory.mktemp("served") / "log"
    shared = ("--context", "1024", "--cache-tokens", "4096")  # more than the two small ones have
    with running_server(*NAMES, "--cache-dir", str(cache), *shared, log=log) as (url, _):
        yield httpx.Client(base_url=url, timeout=60)


def test_each_name_is_served_by_its_kind(http: httpx.Client) -> None:
    listed = http.get("/v1/models?kind=all").json()["data"]
    kinds = {one["id"]: one["kind"] for one in listed if one["kind"] != "task"}
    assert kinds == dict(zip(NAMES, ("generation", "embedding", "rerank"), strict=True))
    body = {"messages": [{"role": "user", "content": "你好"}], "max_tokens": 1}
    assert http.post("/v1/chat/completions", json=body).json()["model"] == "chatglm2-6b"


def test_the_embedding_model_makes_its_vectors(cache: Path, http: httpx.Client) -> None:
    tokenizer = load_encoder_tokenizer(cache / "bge-large-zh.q8_0.gguf")
    texts = ["the cat sat", "今天北京的天气", "c" * 101]
    data = http.post("/v1/embeddings", json={"model": "bge-large-zh", "input": texts}).json()["data"]
    expected = [VECTORS.compute(tokenizer.encode_framed(text)) for text in texts]
    np.testing.assert_allclose([one["embedding"] for one in data], expected, atol=1e-5)


def test_the_reranker_gives_its_scores_and_cuts_what_is_too_long(cache: Path, http: httpx.Client) -> None:
    tokenizer = load_encoder_tokenizer(cache / "bge-reranker-base.q8_0.gguf")
    documents = ["今天北京晴", "股市下跌", "", "模型" * 200]
    reply = http.post("/v1/rerank", json={"query": "天气", "documents": documents})
    query = tokenizer.encode("天气")
    room = 48 - 4 - len(query)
    pairs = [tokenizer.framed(query, tokenizer.encode(document)[:room]) for document in documents]
    expected = [1 / (1 + math.exp(-float(SCORES.compute(pair)[0]))) for pair in pairs]
    results = reply.json()["results"]
    assert [one["index"] for one in results] == sorted(range(4), key=lambda index: -expected[index])
    found = {one["index"]: one["relevance_score"] for one in results}
    assert [found[index] for index in range(4)] == pytest.approx(expected, abs=1e-5)
    assert reply.headers["x-glmserve-truncated"] == "1"


def test_a_thousand_documents_and_a_chat_are_answered_beside_each_other(http: httpx.Client) -> None:
    documents = [f"第{number}篇" for number in range(1000)]
    reply = http.post("/rerank", json={"query": "天气", "documents": documents, "top_n": 3})
    assert [len(reply.json()["results"]), "x-glmserve-truncated" in reply.headers] == [3, False]
    figures = http.get("/metrics").text
    assert 'prompt_tokens_total{model_name="bge-reranker-base"}' in figures


def test_the_models_refuse_each_others_work(http: httpx.Client) -> None:
    body = {"messages": [{"role": "user", "content": "a"}]}
    asked = [
        ("/v1/chat/completions", {**body, "model": "bge-large-zh"}),
        ("/v1/messages", {**body, "model": "bge-reranker-base", "max_tokens": 1}),
        ("/v1/rerank", {"model": "chatglm2-6b", "query": "a", "documents": ["a"]}),
        ("/v1/embeddings", {"model": "bge-reranker-base", "input": "a"}),
    ]
    assert [http.post(path, json=ask).status_code for path, ask in asked] == [400] * 4
