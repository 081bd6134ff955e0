"""Shared by the legacy contracts: one prompt after its history in, the original's four keys out."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from fastapi import Request
from fastapi.responses import JSONResponse
from typing_extensions import TypedDict

from glmserve.compat.schemas import LegacyBody, LegacyRequest, parse_legacy_request
from glmserve.engine.params import SamplingParams
from glmserve.generation.generate import GenerationRequest, complete, room_for_answer, unless_gone
from glmserve.http.error_replies import ErrorReply
from glmserve.http.errors import RouteNotServed
from glmserve.http.json_body import hung_up, read_request
from glmserve.http.offload import off_loop
from glmserve.http.openapi import GENERATES, documented
from glmserve.http.request_context import RequestContext
from glmserve.http.request_record import current_request
from glmserve.model_pool.registry import EncodedPrompt, ModelCard, ModelRegistry, ServedModel
from glmserve.model_pool.truncation import encode_latest

Clock = Callable[[], datetime]

_TIME_FORMAT = "%Y-%m-%d %H:%M:%S"


@dataclass(frozen=True, slots=True)
class Contract:
    """Differences between the legacy addresses."""

    route: str
    """As error messages name it."""
    formats: frozenset[str]
    """Prompt formats of the models that it may be answered by; the first such model is."""
    sampling: Callable[[LegacyRequest, ModelCard, int, int], SamplingParams]
    """From the request, the model's card, the tokens of the prompt, and how many the context leaves after it."""
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

        async def encode(first: int) -> EncodedPrompt:
            return await model.encode(await off_loop(partial(ask.messages, first)), context)

        prompt = await encode_latest(encode, len(ask.rounds), model.context_length)
        room = room_for_answer(model, len(prompt.ids))
        params = contract.sampling(ask, model.card, len(prompt.ids), room)
        request = GenerationRequest(prompt.ids, params, common_tokens=prompt.common_tokens)
        completion = await complete(model, request, context)
    return contract.polish(completion.answers[0].text)


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
