"""Clients of rerankers: langchain's, and the bytes of programs that cannot be installed here."""

import json

import pytest
import requests
from langchain_community.document_compressors import jina_rerank
from langchain_core.documents import Document

from tests.clients.conftest import Deployment
from tests.clients.programs import run_python

MODEL = "bge-reranker-base"
QUERY = "今天北京的天气怎么样"
DOCUMENTS = ["今天北京晴，气温二十度", "股市今天下跌", "模型的显存不够"]


def scores_of(deployment: Deployment) -> list[float]:
    """Return the scores of the documents in their order, by vLLM's endpoint."""
    body = {"model": MODEL, "text_1": QUERY, "text_2": DOCUMENTS}
    reply = requests.post(f"{deployment.url}/v1/score", json=body, headers=bearer(deployment), timeout=60)
    return [one["score"] for one in reply.json()["data"]]


def bearer(deployment: Deployment) -> dict[str, str]:
    return {"Authorization": f"Bearer {deployment.key}", "Content-Type": "application/json"}


def posted(deployment: Deployment, path: str, body: str) -> dict[str, object]:
    reply = requests.post(deployment.url + path, data=body.encode(), headers=bearer(deployment), timeout=60)
    assert reply.status_code == 200, reply.text
    assert "x-glmserve-ignored-fields" not in reply.headers
    answer: dict[str, object] = reply.json()
    return answer


@pytest.fixture
def scores(deployment: Deployment) -> list[float]:
    return scores_of(deployment)


def ranked(scores: list[float]) -> list[int]:
    return sorted(range(len(scores)), key=lambda index: -scores[index])


def test_langchain_compresses_documents(
    deployment: Deployment, scores: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jina_rerank, "JINA_API_URL", f"{deployment.url}/v1/rerank")
    compressor = jina_rerank.JinaRerank(model=MODEL, jina_api_key=deployment.key, top_n=2)
    documents = [Document(text, metadata={"source": number}) for number, text in enumerate(DOCUMENTS)]
    best = compressor.compress_documents(documents, QUERY)
    assert [one.metadata["source"] for one in best] == ranked(scores)[:2]
    assert best[0].metadata["relevance_score"] == pytest.approx(max(scores), abs=1e-5)


def test_dify_reads_scores_and_documents(deployment: Deployment, scores: list[float]) -> None:
    """Its provider OpenAI-API-compatible; the provider of Jina sends the same."""
    body = {"model": MODEL, "query": QUERY, "documents": DOCUMENTS, "top_n": 3, "return_documents": True}
    results = posted(deployment, "/v1/rerank", json.dumps(body))["results"]
    assert isinstance(results, list)
    assert [result["index"] for result in results] == ranked(scores)
    for result in results:
        document = result.get("document", {})
        text = document.get("text") if isinstance(document, dict) else document
        assert text == DOCUMENTS[result["index"]]
        assert float(result["relevance_score"]) == pytest.approx(scores[result["index"]], abs=1e-5)


def test_dify_checks_a_new_reranker(deployment: Deployment) -> None:
    """With documents of several lines, a threshold of its own, and no count."""
    texts = [
        "Carson City is the capital city of the American state of Nevada. At the 2010 United States Census, Carson "
        "City had a population of 55,274.",
        "The Commonwealth of the Northern Mariana Islands is a group of islands in the Pacific Ocean that are a "
        "political division controlled by the United States. Its capital is Saipan.",
    ]
    body = {"model": MODEL, "query": "What is the capital of the United States?", "documents": texts,
            "top_n": None, "return_documents": True}  # fmt: skip
    results = posted(deployment, "/v1/rerank", json.dumps(body))["results"]
    assert isinstance(results, list)
    assert len(results) == 2


def test_fastgpt_and_open_webui_send_as_many_as_they_have(deployment: Deployment, scores: list[float]) -> None:
    fastgpt = {"model": MODEL, "query": QUERY, "documents": DOCUMENTS}
    open_webui = {**fastgpt, "top_n": len(DOCUMENTS)}
    for body in (fastgpt, open_webui):
        answer = posted(deployment, "/v1/rerank", json.dumps(body, ensure_ascii=False))
        results = answer["results"]
        assert isinstance(results, list)
        by_index = sorted(results, key=lambda one: int(one["index"]))
        assert [one["relevance_score"] for one in by_index] == pytest.approx(scores, abs=1e-5)


def test_xinferences_client_sends_all_its_fields(deployment: Deployment, scores: list[float]) -> None:
    body = {"model": MODEL, "documents": DOCUMENTS, "query": QUERY, "top_n": None, "max_chunks_per_doc": None,
            "return_documents": True, "return_len": True}  # fmt: skip
    answer = posted(deployment, "/v1/rerank", json.dumps(body))
    results = answer["results"]
    assert isinstance(results, list)
    assert [one["index"] for one in results] == ranked(scores)


def test_one_api_counts_the_tokens_of_jinas_form(deployment: Deployment) -> None:
    """New API and its relatives relay the body and charge by ``usage``."""
    body = f'{{"documents":{json.dumps(DOCUMENTS)},"query":{json.dumps(QUERY)},"model":"{MODEL}","top_n":3}}'
    usage = posted(deployment, "/v1/rerank", body)["usage"]
    assert isinstance(usage, dict)
    assert usage["total_tokens"] == usage["prompt_tokens"] > 0


def test_vllms_examples_are_answered(deployment: Deployment) -> None:
    ask = {"model": MODEL, "query": QUERY, "documents": DOCUMENTS, "top_n": 0, "truncate_prompt_tokens": -1}
    assert len(posted(deployment, "/rerank", json.dumps(ask))["results"]) == 3  # type: ignore[arg-type]
    pair = {"model": MODEL, "text_1": QUERY, "text_2": DOCUMENTS[0]}
    assert len(posted(deployment, "/score", json.dumps(pair))["data"]) == 1  # type: ignore[arg-type]


def test_the_libraries_of_cohere_llama_index_and_langchain_agree(deployment: Deployment, scores: list[float]) -> None:
    told = run_python("rerank", "rerank_clients.py", deployment.url, deployment.key, QUERY, *DOCUMENTS)
    best = ranked(scores)[:2]
    assert [index for index, _ in told["v2"]] == best
    assert [score for _, score in told["v2"]] == pytest.approx([scores[index] for index in best], abs=1e-5)
    assert told["units"] == 1
    assert told["v1"] == [[index, DOCUMENTS[index]] for index in ranked(scores)]
    assert told["unknown_model"] == "model_not_found"
    for client in ("llama_index_cohere", "llama_index_jina", "langchain"):
        assert [text for text, _ in told[client]] == [DOCUMENTS[index] for index in best], client
