"""Clients of rerankers: langchain's, and the bytes of programs that cannot be installed here."""

import json
from typing import Any

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


def posted(deployment: Deployment, path: str, body: str) -> dict[str, Any]:
    reply = requests.post(deployment.url + path, data=body.encode(), headers=bearer(deployment), timeout=60)
    assert reply.status_code == 200, reply.text
    assert "x-glmserve-ignored-fields" not in reply.headers
    answer: dict[str, Any] = reply.json()
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


CAPITALS = [
    "Carson City is the capital city of the American state of Nevada. At the 2010 United States Census, Carson City "
    "had a population of 55,274.",
    "The Commonwealth of the Northern Mariana Islands is a group of islands in the Pacific Ocean that are a political "
    "division controlled by the United States. Its capital is Saipan.",
    "Washington, D.C., formally the District of Columbia, is the capital city and federal district of the United "
    "States. It is located on the east bank of the Potomac River.",
]


def results_of(deployment: Deployment, body: object) -> list[dict[str, object]]:
    results = posted(deployment, "/v1/rerank", json.dumps(body))["results"]
    assert isinstance(results, list)
    return results


def test_dify_reads_scores(deployment: Deployment, scores: list[float]) -> None:
    """Its plugin OpenAI-API-compatible: the count is that of the documents, unless one is set."""
    results = results_of(deployment, {"model": MODEL, "query": QUERY, "documents": DOCUMENTS, "top_n": 3})
    assert [result["index"] for result in results] == ranked(scores)
    for result in results:
        assert result["relevance_score"] == pytest.approx(scores[int(str(result["index"]))], abs=1e-5)


def test_dify_reads_documents(deployment: Deployment, scores: list[float]) -> None:
    """The class that its other plugins inherit, and its plugin of Jina."""
    body = {"model": MODEL, "query": QUERY, "documents": DOCUMENTS, "top_n": None, "return_documents": True}
    results = results_of(deployment, body)
    assert [result["index"] for result in results] == ranked(scores)
    for result in results:
        document = result.get("document", {})
        text = document.get("text") if isinstance(document, dict) else document
        assert text == DOCUMENTS[int(str(result["index"]))]


def test_dify_sends_parts_where_images_are_enabled(deployment: Deployment, scores: list[float]) -> None:
    documents = [{"content": [{"type": "text", "text": text}]} for text in DOCUMENTS]
    results = results_of(deployment, {"model": MODEL, "query": QUERY, "documents": documents, "top_n": 3})
    assert [result["index"] for result in results] == ranked(scores)


def test_dify_checks_a_new_reranker(deployment: Deployment) -> None:
    question = "What is the capital of the United States?"
    assert len(results_of(deployment, {"model": MODEL, "query": question, "documents": CAPITALS, "top_n": 3})) == 3
    body = {"model": MODEL, "query": question, "documents": CAPITALS[:2], "top_n": None, "return_documents": True}
    assert len(results_of(deployment, body)) == 2


def test_fastgpt_and_open_webui_send_as_many_as_they_have(deployment: Deployment, scores: list[float]) -> None:
    fastgpt = {"model": MODEL, "query": QUERY, "documents": DOCUMENTS}
    open_webui = {**fastgpt, "top_n": len(DOCUMENTS)}
    for body in (fastgpt, open_webui):
        answer = posted(deployment, "/v1/rerank", json.dumps(body, ensure_ascii=False))
        results = answer["results"]
        assert isinstance(results, list)
        by_index = sorted(results, key=lambda one: int(one["index"]))
        assert [one["relevance_score"] for one in by_index] == pytest.approx(scores, abs=1e-5)
        # FastGPT bills these, and counts by itself where they are missing.
        assert answer["meta"]["tokens"]["input_tokens"] == answer["usage"]["prompt_tokens"] > 0


@pytest.mark.parametrize("further", [{}, {"instruction": None}])
def test_xinferences_client_sends_all_its_fields(
    deployment: Deployment, scores: list[float], further: dict[str, object]
) -> None:
    """Its fields that are not set are null, and further ones come twice."""
    body = {"model": MODEL, "documents": DOCUMENTS, "query": QUERY, "top_n": None, "max_chunks_per_doc": None,
            "return_documents": True, "return_len": None, "kwargs": json.dumps(further), **further}  # fmt: skip
    assert [one["index"] for one in results_of(deployment, body)] == ranked(scores)


def test_new_api_relays_and_counts(deployment: Deployment) -> None:
    """It writes the body anew, in its own order, and charges by ``usage``."""
    asked = f'{{"documents":{json.dumps(DOCUMENTS)},"query":{json.dumps(QUERY)},"model":"{MODEL}"'
    for more in (',"top_n":3}', ',"return_documents":true,"max_chunk_per_doc":10,"overlap_tokens":80}'):
        usage = posted(deployment, "/v1/rerank", asked + more)["usage"]
        assert isinstance(usage, dict)
        assert usage["total_tokens"] == usage["prompt_tokens"] > 0


def test_vllms_examples_are_answered(deployment: Deployment) -> None:
    ask = {"model": MODEL, "query": QUERY, "documents": DOCUMENTS, "top_n": 0, "truncate_prompt_tokens": -1}
    assert len(posted(deployment, "/rerank", json.dumps(ask))["results"]) == 3
    pair = {"model": MODEL, "text_1": QUERY, "text_2": DOCUMENTS[0]}
    assert len(posted(deployment, "/score", json.dumps(pair))["data"]) == 1


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
