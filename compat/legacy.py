"""Shared by the legacy contracts: one prompt after its history in, the original's four keys out."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import accumulate

from fastapi import Request
from fastapi.responses import JSONResponse
from typing_extensions import TypedDict

from glmserve.compat.schemas import LegacyBody, LegacyRequest, parse_legacy_request
from glmserve.generation.generate import complete, unless_gone
from glmserve.generation.prepare import AnswerParams, ChatParams, PromptParams, Truncation, prepare
from glmserve.http.error_replies import ErrorReply
from glmserve.http.errors import RouteNotServed
from glmserve.http.json_body import hung_up, read_request
from glmserve.http.offload import off_loop
from glmserve.http.openapi import GENERATES, documented
from glmserve.http.request_context import RequestContext
from glmserve.http.request_record import current_request
from glmserve.model_pool.registry import ModelCard, ModelRegistry, ServedModel

Clock = Callable[[], datetime]

_TIME_FORMAT = "%Y-%m-%d %H:%M:%S"


@dataclass(frozen=True, slots=True)
class Contract:
    """Differences between the legacy addresses."""

    route: str
    """As error messages name it."""
    formats: frozenset[str]
    """Prompt formats of the models that it may be answered by; the first such model is."""
    answer: Callable[[LegacyRequest, ModelCard], AnswerParams]
    """From the request and the model's card."""
    polish: Callable[[str], str]
    """The original's clean-up of an answer."""


class LegacyReply(TypedDict):
    """The original's four keys."""

    response: str
    history: list[object]
    status: int
    time: str


class LegacyFailure(LegacyReply):
    """The same keys, and the error message."""

    error: str


LEGACY = documented(
    LegacyReply, LegacyBody, errors=(*GENERATES, RouteNotServed), failure=LegacyFailure, summary="Answer one prompt"
)
"""OpenAPI documentation of each legacy address."""


def endpoint(contract: Contract, registry: ModelRegistry, clock: Clock) -> Callable[[Request], Awaitable[JSONResponse]]:
    """Return the handler of an address; ``clock`` tells the local time."""

    async def answer(request: Request) -> JSONResponse:
        """Answer one prompt after its history."""
        model = registry.first_of(contract.formats, contract.route)
        ask = await read_request(request, parse_legacy_request, unique_keys=False)
        text = await unless_gone(_answer(ask, model, contract, current_request().context), partial(hung_up, request))
        return await off_loop(lambda: JSONResponse(_body(text, ask.grown(text), 200, clock)))

    return answer


async def _answer(ask: LegacyRequest, model: ServedModel, contract: Contract, context: RequestContext) -> str:
    async with model.in_use():
        prompt = await off_loop(partial(prompt_params, ask), context.body_bytes)
        params = ChatParams(prompt, contract.answer(ask, model.card))
        completion = await complete(model, await prepare(model, params, context), context)
    return contract.polish(completion.answers[0].text)


def prompt_params(ask: LegacyRequest) -> PromptParams:
    """Return the conversation of ``ask``, whose oldest rounds may be left out."""
    starts = accumulate(map(len, ask.rounds), initial=len(ask.system))
    return PromptParams(ask.messages, truncation=Truncation(len(ask.system), tuple(starts)))


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
