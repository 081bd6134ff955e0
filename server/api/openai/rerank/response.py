"""Replies of the rerank and score endpoints: Cohere's and Jina's form, and vLLM's."""

import math
import time
import uuid
from dataclasses import dataclass
from typing import Literal

from typing_extensions import NotRequired, TypedDict

from glmserve.api.openai.rerank.protocol import DocumentObject, RerankRequest

TRUNCATED = "x-glmserve-truncated"
"""Header that says how many texts were too long."""

_NAMED = 20
"""Indices that the warning lists."""


class RerankResult(TypedDict):
    """A document: its place in the request, and its score."""

    index: int
    relevance_score: float
    document: NotRequired[DocumentObject]


class PairUsage(TypedDict):
    """Tokens of all pairs."""

    prompt_tokens: int
    total_tokens: int


class ApiVersion(TypedDict):
    """The version of Cohere's API."""

    version: str


class BilledUnits(TypedDict):
    """Cohere's unit: one request."""

    search_units: int


class MetaTokens(TypedDict):
    """Tokens of the request, as FastGPT counts them."""

    input_tokens: int
    output_tokens: int


class RerankMeta(TypedDict):
    """Cohere's notes on the reply."""

    api_version: ApiVersion
    billed_units: BilledUnits
    tokens: MetaTokens
    warnings: NotRequired[list[str]]


class RerankReply(TypedDict):
    """The documents, the most relevant one first."""

    id: str
    object: Literal["list"]
    model: str
    results: list[RerankResult]
    usage: PairUsage
    meta: RerankMeta


class ScoreObject(TypedDict):
    """The score of a pair."""

    object: Literal["score"]
    index: int
    score: float


class ScoreReply(TypedDict):
    """The scores, in the order of the pairs."""

    id: str
    object: Literal["list"]
    created: int
    model: str
    data: list[ScoreObject]
    usage: PairUsage


@dataclass(frozen=True, slots=True)
class Scores:
    """The result of a request."""

    values: tuple[float, ...]
    tokens: int
    """Of all pairs together, as they were computed."""
    truncated: tuple[int, ...]
    """Which pairs were shortened."""


def sigmoid(value: float) -> float:
    """Return the score as bge-reranker's authors normalise it; no exponential overflows."""
    if value >= 0:
        return 1.0 / (1.0 + math.exp(-value))
    power = math.exp(value)
    return power / (1.0 + power)


def rerank_reply(body: RerankRequest, scores: Scores, model: str) -> RerankReply:
    """Return the documents, the most relevant one first; equal ones in the order of the request."""
    order = sorted(range(len(scores.values)), key=lambda index: (-scores.values[index], index))
    results = []
    for index in order[: body.top_n or None]:
        result: RerankResult = {"index": index, "relevance_score": scores.values[index]}
        if body.return_documents:
            result["document"] = {"text": body.documents[index]}
        results.append(result)
    meta: RerankMeta = {
        "api_version": {"version": "2"},
        "billed_units": {"search_units": 1},
        "tokens": {"input_tokens": scores.tokens, "output_tokens": 0},
    }
    if scores.truncated:
        meta["warnings"] = [_warning(scores.truncated)]
    return {
        "id": f"rerank-{uuid.uuid4().hex}",
        "object": "list",
        "model": model,
        "results": results,
        "usage": _usage(scores),
        "meta": meta,
    }


def _warning(truncated: tuple[int, ...]) -> str:
    named = ", ".join(map(str, truncated[:_NAMED]))
    more = f" and {len(truncated) - _NAMED} more" if len(truncated) > _NAMED else ""
    return f"longer than the model or the limit of the request allows, so the end was left out: documents {named}{more}"


def score_reply(scores: Scores, model: str) -> ScoreReply:
    """Return the scores in the order of the pairs."""
    return {
        "id": f"score-{uuid.uuid4().hex}",
        "object": "list",
        "created": int(time.time()),
        "model": model,
        "data": [{"object": "score", "index": index, "score": value} for index, value in enumerate(scores.values)],
        "usage": _usage(scores),
    }


def _usage(scores: Scores) -> PairUsage:
    return {"prompt_tokens": scores.tokens, "total_tokens": scores.tokens}
