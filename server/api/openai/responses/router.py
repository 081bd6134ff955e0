"""POST /v1/responses, and the routes of stored responses."""

import json
from functools import partial

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from glmserve.api.openai.responses.protocol import ResponsesRequest
from glmserve.api.openai.responses.request import parse_given
from glmserve.api.openai.responses.response import (
    InputItems,
    InputTokens,
    ResponseDeleted,
    ResponseEvent,
    ResponseObject,
    page,
)
from glmserve.api.openai.responses.service import ResponsesService
from glmserve.api.openai.responses.store import StoredResponse
from glmserve.generation.generate import unless_gone
from glmserve.http.errors import AddressNotFound, InvalidRequest, PromptNotFound, ResponseNotFound
from glmserve.http.json_body import hung_up, read_request
from glmserve.http.offload import off_loop
from glmserve.http.openapi import GENERATES, Tag, documented
from glmserve.http.request_record import current_request

_JSON = "application/json"
_ONE = "/v1/responses/{response_id}"
_COMPACT = "/v1/responses/compact"
_ERRORS = (*GENERATES, PromptNotFound)


def create_router(answering: ResponsesService) -> APIRouter:
    """Return the routes, answering and storing as ``answering`` does."""
    router = APIRouter()
    _add_answering(router, answering)
    _add_unsupported(router)
    _add_stored(router, answering)
    return router


def _add_answering(router: APIRouter, answering: ResponsesService) -> None:
    @router.post("/v1/responses", **documented(ResponseObject, ResponsesRequest, events=ResponseEvent, errors=_ERRORS))
    async def create_response(request: Request) -> Response:
        """Answer a conversation, whole or as a stream of events."""
        ask = await answering.ask(await read_request(request, parse_given), _owner())
        context = current_request().context
        if ask.body.stream:
            return await answering.stream(ask, context)
        return JSONResponse(await unless_gone(answering.complete(ask, context), partial(hung_up, request)))

    @router.post(
        "/v1/responses/input_tokens", **documented(InputTokens, ResponsesRequest, errors=_ERRORS, tag=Tag.TEXT)
    )
    async def count_input_tokens(request: Request) -> Response:
        """Count the tokens of a prompt."""
        ask = await answering.ask(await read_request(request, parse_given), _owner())
        tokens = await answering.count(ask, current_request().context)
        return JSONResponse({"object": "response.input_tokens", "input_tokens": tokens})


def _add_unsupported(router: APIRouter) -> None:
    @router.post(_COMPACT, include_in_schema=False)
    async def compact_conversation() -> Response:
        """Explain that compaction is not supported; without this route the path would mean a stored response."""
        hint = 'to have long conversations cut, send "truncation": "auto" to /v1/responses'
        raise AddressNotFound("POST", _COMPACT, hint)


def _add_stored(router: APIRouter, answering: ResponsesService) -> None:
    @router.get(_ONE, **documented(ResponseObject, errors=(ResponseNotFound, InvalidRequest), tag=Tag.TEXT))
    async def retrieve_response(request: Request, response_id: str) -> Response:
        """Return a stored response."""
        found = _found(answering, response_id)
        if request.query_params.get("stream") == "true":
            raise InvalidRequest("a stored response cannot be streamed again; leave stream out", param="stream")
        return Response(found.reply, media_type=_JSON)

    @router.delete(_ONE, **documented(ResponseDeleted, errors=(ResponseNotFound,), tag=Tag.TEXT))
    async def delete_response(response_id: str) -> Response:
        """Forget a stored response."""
        if not answering.store.delete(_owner(), response_id):
            raise ResponseNotFound(response_id)
        return JSONResponse({"id": response_id, "object": "response", "deleted": True})

    @router.get(
        f"{_ONE}/input_items", **documented(InputItems, errors=(ResponseNotFound, InvalidRequest), tag=Tag.TEXT)
    )
    async def list_input_items(request: Request, response_id: str) -> Response:
        """List the input items of a stored response, including the items of the responses before it."""
        found = _found(answering, response_id)
        query = dict(request.query_params)
        return await off_loop(
            lambda: JSONResponse(page([json.loads(text) for text in found.inputs], query)), found.size
        )

    @router.post(
        f"{_ONE}/cancel", **documented(ResponseObject, errors=(ResponseNotFound, InvalidRequest), tag=Tag.TEXT)
    )
    async def cancel_response(response_id: str) -> Response:
        """Reject: only background responses could be cancelled, and this server has none."""
        _found(answering, response_id)
        raise InvalidRequest(
            "only background responses can be cancelled, which this server does not have", param="response_id"
        )


def _found(answering: ResponsesService, response_id: str) -> StoredResponse:
    found = answering.store.get(_owner(), response_id)
    if found is None:
        raise ResponseNotFound(response_id)
    return found


def _owner() -> str:
    return current_request().key
