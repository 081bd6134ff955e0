"""POST /v1/messages and /v1/messages/count_tokens."""

import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from glmserve.api.anthropic.protocol import (
    MessagesRequest,
    PromptRequest,
    parse_count_request,
    parse_messages_request,
    to_params,
    to_prompt_params,
)
from glmserve.api.anthropic.response import (
    CountedTokens,
    MessageEvent,
    MessageFailure,
    MessageObject,
    MessageWriter,
    failure,
)
from glmserve.api.common.progress import progress_comment, streamed
from glmserve.generation.generate import generate, unless_gone
from glmserve.generation.generation import Generation
from glmserve.generation.prepare import encode_prompt, prepare
from glmserve.http.error_replies import ErrorReply, prompt_in
from glmserve.http.offload import disconnected, off_loop, read_request
from glmserve.http.openapi import Tag, documented
from glmserve.http.request_context import RequestContext
from glmserve.http.request_record import current_request
from glmserve.http.sse import Comment, Event, EventStream
from glmserve.model_pool.registry import ModelRegistry
from glmserve.model_pool.served_model import ServedModel

PATH = "/v1/messages"
"""Errors at this address and below have the shape of ``errors.failure``."""


def create_router(registry: ModelRegistry) -> APIRouter:
    """Return the routes, answering from the models of ``registry``."""
    router = APIRouter()

    @router.post(PATH, **documented(MessageObject, MessagesRequest, events=MessageEvent, failure=MessageFailure))
    async def create_message(request: Request) -> Response:
        """Answer a conversation, whole or as a stream of events."""
        body = await read_request(request, parse_messages_request)
        model = registry.get(body.model)
        context = current_request().context
        if body.stream:
            return await _stream(body, model, context)
        return JSONResponse(await unless_gone(_complete(body, model, context), partial(disconnected, request)))

    @router.post(
        f"{PATH}/count_tokens", **documented(CountedTokens, PromptRequest, failure=MessageFailure, tag=Tag.TEXT)
    )
    async def count_tokens(request: Request) -> Response:
        """Count the tokens of a prompt."""
        body = await read_request(request, parse_count_request)
        model = registry.get(body.model)
        async with model.in_use():
            with prompt_in("messages"):
                params = await off_loop(partial(to_prompt_params, body))
                prompt = await encode_prompt(model, params, current_request().context)
        return JSONResponse({"input_tokens": len(prompt.encoded.told_ids)})

    return router


async def _complete(body: MessagesRequest, model: ServedModel, context: RequestContext) -> MessageObject:
    generation, writer = await _begin(body, model, context)
    async with aclosing(generation):
        async for delta in generation:
            writer.feed(delta, generation.usage)
    writer.finish(generation.usage)
    return writer.message(generation.usage)


async def _stream(body: MessagesRequest, model: ServedModel, context: RequestContext) -> EventStream:
    """Open the stream; errors of the engine are raised here, before the status is sent."""
    generation, writer = await _begin(body, model, context)
    return EventStream(generation, _events(generation, writer), _fail)


async def _begin(
    body: MessagesRequest, model: ServedModel, context: RequestContext
) -> tuple[Generation, MessageWriter]:
    async with model.in_use():
        with prompt_in("messages"):
            params = await off_loop(partial(to_params, body, model.card), context.body_bytes)
            prepared = await prepare(model, params, context)
            fills_context = len(prepared.prompt_ids) + prepared.params.max_tokens == model.context_length
            is_cut = fills_context and prepared.params.max_tokens < body.max_tokens
            thinks = body.thinking is not None and body.thinking.type != "disabled"
            name = model.card.name
            writer = MessageWriter(f"msg_{uuid.uuid4().hex}", name, is_cut_to_context=is_cut, thinks=thinks)
            return await generate(model, streamed(prepared) if body.stream else prepared, context), writer


async def _events(generation: Generation, writer: MessageWriter) -> AsyncGenerator[Event | Comment, None]:
    async for delta in generation:
        if delta.progress is not None:
            yield progress_comment(delta.progress)
            continue
        for event in writer.feed(delta, generation.usage):
            yield event
    for event in writer.finish(generation.usage):
        yield event


def _fail(reply: ErrorReply) -> tuple[Event]:
    return (Event(failure(reply), "error"),)
