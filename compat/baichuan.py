"""POST /baichuan: ``{"prompt": …}``, optionally with the fields that /chatglm has; the same answer."""

from fastapi import APIRouter

from glmserve.compat.legacy import LEGACY, Clock, Contract, endpoint
from glmserve.compat.schemas import LegacyRequest
from glmserve.engine.params import MAX_TOKENS, SamplingParams
from glmserve.generation.prepare import AnswerParams
from glmserve.model_pool.registry import ModelCard, ModelRegistry

PATHS = ("/baichuan",)


def create_router(registry: ModelRegistry, clock: Clock) -> APIRouter:
    """Return the route, answering from the first Baichuan; ``clock`` tells the local time."""
    router = APIRouter()
    for path in PATHS:
        router.add_api_route(path, endpoint(BAICHUAN, registry, clock), methods=["POST"], **LEGACY)
    return router


def answer(ask: LegacyRequest, card: ModelCard) -> AnswerParams:
    """Return the parameters of the model's own ``chat()``, which counts the tokens of the answer alone.

    A ``max_length`` counts prompt and answer, as it does in the body that the field is borrowed from.
    """
    defaults = card.defaults
    sampling = SamplingParams(
        MAX_TOKENS,
        temperature=ask.temperature or defaults.temperature,
        top_p=ask.top_p or defaults.top_p,
        top_k=defaults.top_k,
        repetition_penalty=defaults.repetition_penalty,
    )
    return AnswerParams(sampling, max_total_tokens=ask.max_length)


def _as_it_is(text: str) -> str:
    return text


BAICHUAN = Contract("/baichuan", frozenset({"baichuan"}), answer, _as_it_is)
