"""POST /chatglm and POST /: the contract of the model authors' ``api.py``, for programs written in 2023."""

from fastapi import APIRouter

from glmserve.compat.legacy import LEGACY, Clock, Contract, endpoint
from glmserve.compat.schemas import LegacyRequest
from glmserve.engine.params import SamplingParams
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
    answer = endpoint(CHATGLM, registry, clock)
    for path in PATHS:
        router.add_api_route(path, answer, methods=["POST"], **LEGACY)
    return router


def process_response(text: str) -> str:
    """Return an answer as the model's own code hands it out: the model writes a marker for its training date."""
    return text.strip().replace("[[训练时间]]", "2023年")


def sampling(ask: LegacyRequest, _: ModelCard, prompt_tokens: int, room: int) -> SamplingParams:
    """Return the sampling of the original, whose ``max_length`` counts prompt and answer."""
    length = _MAX_LENGTH if ask.max_length is None else ask.max_length
    return SamplingParams(
        # The original let a prompt past max_length have an answer of a token.
        max_tokens=max(1, min(room, length - prompt_tokens)),
        temperature=ask.temperature or _TEMPERATURE,
        top_p=ask.top_p or _TOP_P,
        top_k=_TOP_K,
    )


CHATGLM = Contract("/chatglm", frozenset({"chatglm2", "chatglm3", "glm4"}), sampling, process_response)
