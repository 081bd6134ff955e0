"""POST /chatglm and POST /: the contract of the model authors' ``api.py``, for programs written in 2023."""

from fastapi import APIRouter

from glmserve.compat.legacy import LEGACY, Clock, Contract, endpoint
from glmserve.compat.schemas import LegacyRequest
from glmserve.engine.params import MAX_TOKENS, SamplingParams
from glmserve.generation.prepare import AnswerParams
from glmserve.model_pool.registry import ModelCard, ModelRegistry

PATHS = ("/chatglm", "/")
_MAX_LENGTH = 2048
_TOP_P = 0.7
_TEMPERATURE = 0.95
_TOP_K = 50
"""Default of transformers 4.x, which the original's requests left unset."""


def create_router(registry: ModelRegistry, clock: Clock) -> APIRouter:
    """Return the routes, answering from the first ChatGLM; ``clock`` tells the local time."""
    router = APIRouter()
    handler = endpoint(CHATGLM, registry, clock)
    for path in PATHS:
        router.add_api_route(path, handler, methods=["POST"], **LEGACY)
    return router


def process_response(text: str) -> str:
    """Return an answer as the model's own code hands it out: the model writes a marker for its training date."""
    return text.strip().replace("[[训练时间]]", "2023年")


def answer(ask: LegacyRequest, _: ModelCard) -> AnswerParams:
    """Return the parameters of the original, whose ``max_length`` counts prompt and answer."""
    sampling = SamplingParams(
        MAX_TOKENS, temperature=ask.temperature or _TEMPERATURE, top_p=ask.top_p or _TOP_P, top_k=_TOP_K
    )
    # The original let a prompt past max_length have an answer of a token.
    return AnswerParams(sampling, max_total_tokens=_MAX_LENGTH if ask.max_length is None else ask.max_length)


CHATGLM = Contract("/chatglm", frozenset({"chatglm2", "chatglm3", "glm4"}), answer, process_response)
