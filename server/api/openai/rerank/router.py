"""POST /v1/rerank, /v2/rerank, /v1/score."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from glmserve.api.common.passing import Passed, Target, pass_on, unless_passed
from glmserve.api.openai.rerank.protocol import (
    RerankRequest,
    ScoreRequest,
    parse_rerank_request,
    parse_score_request,
)
from glmserve.api.openai.rerank.response import (
    TRUNCATED,
    RerankReply,
    ScoreReply,
    Scores,
    rerank_reply,
    score_reply,
    sigmoid,
)
from glmserve.engine.interface import Caller
from glmserve.generation.generate import unless_gone
from glmserve.http.errors import InvalidRequest
from glmserve.http.offload import disconnected, off_loop, read_request
from glmserve.http.openapi import documented
from glmserve.http.request_context import RequestContext, RequestProgress
from glmserve.http.request_record import current_request
from glmserve.model_pool.registry import ModelRegistry
from glmserve.model_pool.served_model import CHARACTERS_PER_TOKEN, RerankModel

_QUERY_SHARE = 0.75
"""Of the context, at most: as the authors of bge-reranker truncate."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long texts may be, in tokens; 0 is as long as the model takes."""

    pair: int = 0
    document: int = 0


async def score_pairs(
    pairs: Sequence[tuple[str, str]], model: RerankModel, context: RequestContext, limits: Limits, *, activate: bool
) -> Scores:
    """Return the score of each pair; the sigmoid of the output of the model's head where ``activate`` is true.

    A first text of more than three quarters of the context, and then the second one, lose what is too long at the
    end.

    Raises:
        InvalidRequest: a limit leaves no room for two texts.
        EngineError: see ``Engine.embed``.
    """
    async with model.in_use():
        most = min(limits.pair, model.context_length) if limits.pair > 0 else model.context_length
        queries = list(dict.fromkeys(first for first, _ in pairs))
        texts = [*queries, *(second for _, second in pairs)]
        encoded = await model.encode([text[: most * CHARACTERS_PER_TOKEN] for text in texts], context)
        of_query = dict(zip(queries, encoded, strict=False))
        framed = model.tokenizer.framed
        room = most - len(framed((), ()))
        if room < 2:
            raise InvalidRequest(
                f"a limit of {most} tokens leaves no room for two texts", param="truncate_prompt_tokens"
            )
        inputs, truncated = [], []
        for index, ((first, second), document) in enumerate(zip(pairs, encoded[len(queries) :], strict=True)):
            query = of_query[first][: max(1, int(room * _QUERY_SHARE))]
            rest = min(room - len(query), limits.document or room)
            is_cut = max(len(first), len(second)) > most * CHARACTERS_PER_TOKEN
            if is_cut or len(query) < len(of_query[first]) or len(document) > rest:
                truncated.append(index)
            inputs.append(framed(query, document[:rest]))
        raw = await model.score(tuple(inputs), Caller(context.caller, context.seconds_left()))
    tokens = sum(map(len, inputs))
    context.observer.begin(RequestProgress(model.card.name, tokens))
    return Scores(tuple(map(sigmoid, raw)) if activate else raw, tokens, tuple(truncated))


def create_router(registry: ModelRegistry) -> APIRouter:
    """Return the routes, answering from the models of ``registry``."""
    router = APIRouter()

    @router.post("/v2/rerank", **documented(RerankReply, RerankRequest, summary="Rerank, by Cohere's second address"))
    @router.post("/v1/rerank", **documented(RerankReply, RerankRequest))
    async def rerank(request: Request) -> Response:
        """Order documents by how well each of them answers a query."""
        body = await read_request(request, unless_passed(registry, parse_rerank_request, RerankModel))
        if isinstance(body, Passed):
            return await pass_on(body, Target("/rerank"), request)
        model = registry.reranker(body.model)
        return await unless_gone(_rerank(body, model, current_request().context), partial(disconnected, request))

    @router.post("/v1/score", **documented(ScoreReply, ScoreRequest))
    async def score(request: Request) -> Response:
        """Score pairs of texts."""
        body = await read_request(request, unless_passed(registry, parse_score_request, RerankModel))
        if isinstance(body, Passed):
            return await pass_on(body, Target("/score"), request)
        model = registry.reranker(body.model)
        return await unless_gone(_score(body, model, current_request().context), partial(disconnected, request))

    return router


async def _rerank(body: RerankRequest, model: RerankModel, context: RequestContext) -> JSONResponse:
    pairs = [(body.query, document) for document in body.documents]
    limits = Limits(body.truncate_prompt_tokens or 0, body.max_tokens_per_doc or 0)
    scores = await score_pairs(pairs, model, context, limits, activate=body.use_activation is not False)
    return await _sent(partial(rerank_reply, body, scores, model.card.name), scores, context)


async def _score(body: ScoreRequest, model: RerankModel, context: RequestContext) -> JSONResponse:
    limits = Limits(body.truncate_prompt_tokens or 0)
    scores = await score_pairs(body.pairs(), model, context, limits, activate=body.use_activation is not False)
    return await _sent(partial(score_reply, scores, model.card.name), scores, context)


async def _sent(reply: Callable[[], RerankReply | ScoreReply], scores: Scores, context: RequestContext) -> JSONResponse:
    headers = {TRUNCATED: str(len(scores.truncated))} if scores.truncated else {}
    return await off_loop(lambda: JSONResponse(reply(), headers=headers), context.body_bytes)
