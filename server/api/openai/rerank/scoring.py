"""From pairs of texts to scores: tokens, truncation, and the engine."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from glmserve.engine.interface import Caller
from glmserve.http.errors import InvalidRequest
from glmserve.http.request_context import RequestContext, RequestProgress
from glmserve.model_pool.registry import CHARACTERS_PER_TOKEN, RerankModel

_QUERY_SHARE = 0.75
"""Of the context, at most: as the authors of bge-reranker truncate."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long texts may be, in tokens; 0 is as long as the model takes."""

    pair: int = 0
    document: int = 0


@dataclass(frozen=True, slots=True)
class Scores:
    """The result of a request."""

    values: tuple[float, ...]
    tokens: int
    """Of all pairs together, as they were computed."""
    truncated: tuple[int, ...]
    """Which pairs were shortened."""


async def score_pairs(
    pairs: Sequence[tuple[str, str]], model: RerankModel, context: RequestContext, limits: Limits, *, activate: bool
) -> Scores:
    """Return the score of each pair; the sigmoid of what the model's head says where ``activate`` is true.

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
    return Scores(tuple(map(_sigmoid, raw)) if activate else raw, tokens, tuple(truncated))


def _sigmoid(value: float) -> float:
    """Return the score as bge-reranker's authors normalise it; no exponential overflows."""
    if value >= 0:
        return 1.0 / (1.0 + math.exp(-value))
    power = math.exp(value)
    return power / (1.0 + power)
