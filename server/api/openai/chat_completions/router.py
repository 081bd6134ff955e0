"""POST /v1/chat/completions."""

from functools import partial

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from glmserve.api.common.passing import Passed, Target, pass_on, unless_passed
from glmserve.api.common.progress import streamed
from glmserve.api.openai.chat_completions.protocol import ChatRequest, parse_chat_request, to_params
from glmserve.api.openai.chat_completions.response import (
    CallFormat,
    ChatChunk,
    ChatCompletion,
    ChunkWriter,
    chat_completion,
    chat_stream,
    failure,
)
from glmserve.api.openai.envelope import new_head
from glmserve.generation.generate import GenerationRequest, complete, generate, unless_gone
from glmserve.generation.generation import Completion
from glmserve.generation.prepare import prepare
from glmserve.http.error_replies import ErrorEnvelope
from glmserve.http.offload import disconnected, off_loop, read_request
from glmserve.http.openapi import documented
from glmserve.http.request_context import RequestContext
from glmserve.http.request_record import current_request
from glmserve.http.sse import EventStream
from glmserve.model_pool.registry import ModelRegistry
from glmserve.model_pool.served_model import ServedModel

_ID_PREFIX = "chatcmpl"
_TARGET = Target("/chat/completions", generates=True)


def create_router(registry: ModelRegistry) -> APIRouter:
    """Return the route, answering from the models of ``registry``."""
    router = APIRouter()

    @router.post("/v1/chat/completions", **documented(ChatCompletion, ChatRequest, events=ChatChunk | ErrorEnvelope))
    async def chat_completions(request: Request) -> Response:
        """Answer a conversation, whole or as a stream of events."""
        body = await read_request(request, unless_passed(registry, parse_chat_request))
        if isinstance(body, Passed):
            return await pass_on(body, _TARGET, request, failure)
        model = registry.get(body.model)
        context = current_request().context
        if body.stream:
            return await _stream(body, model, context)
        completion = await unless_gone(_complete(body, model, context), partial(disconnected, request))
        head = new_head(_ID_PREFIX, model.card)
        return JSONResponse(chat_completion(head, completion, _call_format(body), timings=bool(body.timings)))

    return router


async def _complete(body: ChatRequest, model: ServedModel, context: RequestContext) -> Completion:
    async with model.in_use():
        return await complete(model, await _prepared(body, model, context), context)


async def _stream(body: ChatRequest, model: ServedModel, context: RequestContext) -> EventStream:
    """Open the stream; errors of the engine are raised here, before the status is sent."""
    include_usage = bool(body.stream_options and body.stream_options.include_usage)
    head = new_head(_ID_PREFIX, model.card)
    writer = ChunkWriter(head, include_usage=include_usage, timings=bool(body.timings), calls=_call_format(body))
    async with model.in_use():
        reports = bool(body.return_progress)
        prepared = streamed(await _prepared(body, model, context), reports=reports)
        return chat_stream(await generate(model, prepared, context), writer, prepared.n, reports=reports)


async def _prepared(body: ChatRequest, model: ServedModel, context: RequestContext) -> GenerationRequest:
    params = await off_loop(partial(to_params, body, model.card), context.body_bytes)
    return await prepare(model, params, context)


def _call_format(body: ChatRequest) -> CallFormat:
    return CallFormat(functions=body.has_functions)
