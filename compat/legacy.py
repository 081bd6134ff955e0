"""The legacy contracts: one prompt after its history in, the original's four keys out.

POST /chatglm and POST / are the contract of the model authors' ``api.py``, for programs written in 2023. POST /baichuan
takes ``{"prompt": …}``, optionally with the fields that /chatglm has, and gives the same answer.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import accumulate

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from typing_extensions import TypedDict

from glmserve.compat.schemas import LegacyBody, LegacyRequest, parse_legacy_request
from glmserve.engine.params import MAX_TOKENS, SamplingParams
from glmserve.generation.generate import complete, unless_gone
from glmserve.generation.prepare import AnswerParams, ChatParams, PromptParams, Truncation, prepare
from glmserve.http.error_replies import ErrorReply
from glmserve.http.errors import RouteNotServed
from glmserve.http.offload import disconnected, off_loop, read_request
from glmserve.http.openapi import GENERATES, documented
from glmserve.http.request_record import current_request
from glmserve.model_pool.registry import ModelRegistry
from glmserve.model_pool.served_model import ModelCard, ServedModel

Clock = Callable[[], datetime]

_TIME_FORMAT = "%Y-%m-%d %H:%M:%S"
_MAX_LENGTH = 2048
_TOP_P = 0.7
_TEMPERATURE = 0.95
_ROOM_KEPT, _ROOM_KEPT_SHARE = 512, 4
"""Tokens that an answer may have where the prompt fills ``max_length``, and the largest share of it."""
_TOP_K = 50
"""Default of transformers 4.x, which the original's requests left unset."""


@dataclass(frozen=True, slots=True)
class Contract:
    """Differences between the legacy addresses."""

    paths: tuple[str, ...]
    """The addresses; error messages name the first one."""
    formats: frozenset[str]
    """Prompt formats of the models that it may be answered by; the first such model is."""
    answer: Callable[[LegacyRequest, ModelCard], AnswerParams]
    """From the request and the model's card."""
    polish: Callable[[str], str]
    """The original's clean-up of an answer."""


def process_response(text: str) -> str:
    """Return an answer as ChatGLM's own code hands it out: the model writes a marker for its training date."""
    return text.strip().replace("[[训练时间]]", "2023年")


def _chatglm_params(body: LegacyRequest, _: ModelCard) -> AnswerParams:
    """Return the parameters of the original, whose ``max_length`` counts prompt and answer."""
    sampling = SamplingParams(
        MAX_TOKENS, temperature=body.temperature or _TEMPERATURE, top_p=body.top_p or _TOP_P, top_k=_TOP_K
    )
    return AnswerParams(sampling, max_total_tokens=_MAX_LENGTH if body.max_length is None else body.max_length)


def _baichuan_params(body: LegacyRequest, card: ModelCard) -> AnswerParams:
    """Return the parameters of the model's own ``chat()``, which counts the tokens of the answer alone.

    A ``max_length`` counts prompt and answer, as it does in the body that the field is borrowed from.
    """
    defaults = card.defaults
    sampling = SamplingParams(
        MAX_TOKENS,
        temperature=body.temperature or defaults.temperature,
        top_p=body.top_p or defaults.top_p,
        top_k=defaults.top_k,
        repetition_penalty=defaults.repetition_penalty,
    )
    return AnswerParams(sampling, max_total_tokens=body.max_length)


CHATGLM = Contract(
    ("/chatglm", "/"), frozenset({"chatglm2", "chatglm3", "glm4", "glm4-0414"}), _chatglm_params, process_response
)
BAICHUAN = Contract(("/baichuan",), frozenset({"baichuan", "baichuan2"}), _baichuan_params, str)
PATHS = (*CHATGLM.paths, *BAICHUAN.paths)


class LegacyReply(TypedDict):
    """The original's four keys."""

    response: str
    history: list[object]
    status: int
    time: str


class LegacyFailure(LegacyReply):
    """The same keys, and the error message."""

    error: str


_DOCS = documented(
    LegacyReply, LegacyBody, errors=(*GENERATES, RouteNotServed), failure=LegacyFailure, summary="Answer one prompt"
)
"""OpenAPI documentation of each legacy address."""


def create_router(registry: ModelRegistry, clock: Clock, *, keep_room: bool = True) -> APIRouter:
    """Return the routes; each contract is answered by its first model.

    Args:
        registry: the models.
        clock: tells the local time.
        keep_room: let an answer pass ``max_length`` where the prompt fills it. The original let it have one token.
    """
    router = APIRouter()
    for contract in (CHATGLM, BAICHUAN):
        handler = _endpoint(contract, registry, clock, keep_room=keep_room)
        for path in contract.paths:
            router.add_api_route(path, handler, methods=["POST"], **_DOCS)
    return router


def _endpoint(
    contract: Contract, registry: ModelRegistry, clock: Clock, *, keep_room: bool
) -> Callable[[Request], Awaitable[JSONResponse]]:
    async def answer(request: Request) -> JSONResponse:
        """Answer one prompt after its history."""
        model = registry.first_of(contract.formats, contract.paths[0])
        body = await read_request(request, parse_legacy_request, unique_keys=False)
        params = contract.answer(body, model.card)
        if keep_room:
            params = replace(params, room_kept=_room_kept(params.max_total_tokens))
        text = await unless_gone(_answer(body, model, contract, params), partial(disconnected, request))
        return await off_loop(lambda: JSONResponse(_body(text, body.grown(text), 200, clock)))

    return answer


def _room_kept(max_length: int | None) -> int:
    return max(1, min(_ROOM_KEPT, (max_length or 0) // _ROOM_KEPT_SHARE))


async def _answer(body: LegacyRequest, model: ServedModel, contract: Contract, answer: AnswerParams) -> str:
    context = current_request().context
    async with model.in_use():
        prompt = await off_loop(partial(prompt_params, body), context.body_bytes)
        params = ChatParams(prompt, answer)
        completion = await complete(model, await prepare(model, params, context), context)
    return contract.polish(completion.answers[0].text)


def prompt_params(body: LegacyRequest) -> PromptParams:
    """Return the conversation of ``body``, whose oldest rounds may be left out."""
    starts = accumulate(map(len, body.rounds), initial=len(body.system))
    return PromptParams(body.messages, truncation=Truncation(len(body.system), tuple(starts)))


def failure(clock: Clock, reply: ErrorReply) -> LegacyFailure:
    """Return an error with the keys that a caller of the original reads."""
    return {**_body("", (), reply.status, clock), "error": reply.message}


def _body(response: str, history: tuple[object, ...], status: int, clock: Clock) -> LegacyReply:
    """Return the reply's four keys in the original's order."""
    return {
        "response": response,
        "history": list(history),
        "status": status,
        "time": clock().strftime(_TIME_FORMAT),
    }
