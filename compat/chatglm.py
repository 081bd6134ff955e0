"""POST /chatglm and POST /: the contract of the model authors' ``api.py``, for programs nobody will rewrite."""

import logging
from collections.abc import Callable
from datetime import datetime
from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from compat.schemas import LegacyRequest, parse_legacy_request
from server.engine.params import SamplingParams
from server.errors import TextTooLong, describe, is_expected
from server.generation import GenerationRequest, complete, room_for_answer, unless_gone
from server.registry import ModelRegistry, ServedModel
from server.wire import hung_up, read_json_object

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]

_TOP_K = 50
"""What transformers 4.x samples with where nothing is said, as the original said nothing."""
_TIME_FORMAT = "%Y-%m-%d %H:%M:%S"
_ROOM_KEPT = 512
_ROOM_KEPT_SHARE = 4


def create_router(registry: ModelRegistry, clock: Clock) -> APIRouter:
    """Return the routes, answering from the default model; ``clock`` tells the local time."""
    router = APIRouter()

    @router.post("/chatglm")
    @router.post("/")
    async def chatglm(request: Request) -> JSONResponse:
        """Answer one prompt after its history."""
        try:
            ask = parse_legacy_request(await read_json_object(request, unique_keys=False))
            text = await unless_gone(_answer(ask, registry.get(None)), partial(hung_up, request))
        except Exception as error:
            return _failure(error, clock)
        return JSONResponse(_body(text, (*ask.history, [ask.prompt, text]), 200, clock))

    return router


def process_response(text: str) -> str:
    """Return an answer as the model's own code hands it out: the model writes a marker for its training date."""
    return text.strip().replace("[[训练时间]]", "2023年")


async def _answer(ask: LegacyRequest, model: ServedModel) -> str:
    prompt_ids = await _fit(ask, model)
    room = room_for_answer(model, len(prompt_ids))
    params = SamplingParams(
        # The original let a prompt past max_length have an answer of a token.
        max_tokens=max(1, min(room, ask.max_length - len(prompt_ids))),
        temperature=ask.temperature,
        top_p=ask.top_p,
        top_k=_TOP_K,
    )
    completion = await complete(model, GenerationRequest(prompt_ids, params))
    return process_response(completion.answers[0].text)


async def _fit(ask: LegacyRequest, model: ServedModel) -> tuple[int, ...]:
    """Return the prompt with as many of the latest rounds as the context holds beside some room to answer.

    Halving finds that number in a few encodings however long the history is.
    """
    prompt_ids = await _encode_if_fits(ask, model, 0)
    if prompt_ids is not None:
        return prompt_ids
    best = await model.encode(ask.messages(len(ask.turns)))
    low, high = 1, len(ask.turns)
    while low < high:
        middle = (low + high) // 2
        prompt_ids = await _encode_if_fits(ask, model, middle)
        if prompt_ids is None:
            low = middle + 1
        else:
            best, high = prompt_ids, middle
    return best


async def _encode_if_fits(ask: LegacyRequest, model: ServedModel, first_turn: int) -> tuple[int, ...] | None:
    """Return the prompt from round ``first_turn`` on, or None where it leaves too little room to answer."""
    kept = min(_ROOM_KEPT, model.context_length // _ROOM_KEPT_SHARE)
    try:
        prompt_ids = await model.encode(ask.messages(first_turn))
    except TextTooLong:
        return None
    return prompt_ids if len(prompt_ids) + kept <= model.context_length else None


def _failure(error: Exception, clock: Clock) -> JSONResponse:
    """Return an error with the keys that a caller of the original reads."""
    if not is_expected(error):
        log.error("unhandled error in a legacy request", exc_info=error)
    reply = describe(error)
    body = _body("", (), reply.status, clock)
    return JSONResponse({**body, "error": reply.message}, reply.status, headers=reply.headers())


def _body(response: str, history: tuple[object, ...], status: int, clock: Clock) -> dict[str, object]:
    """Return the reply's four keys in the original's order."""
    return {
        "response": response,
        "history": list(history),
        "status": status,
        "time": clock().strftime(_TIME_FORMAT),
    }
