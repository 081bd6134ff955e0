"""POST /v1/completions."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from glmserve.api.common.passing import DONE, Passed, Target, pass_on, unless_passed
from glmserve.api.common.progress import progress_comment, streamed
from glmserve.api.openai.chat_completions.response import failure
from glmserve.api.openai.completions.protocol import CompletionRequest, parse_completion_request, to_jobs
from glmserve.api.openai.completions.response import CompletionWriter, TextCompletion
from glmserve.api.openai.envelope import new_head
from glmserve.generation.generate import generate_all, unless_gone
from glmserve.generation.generation import Generation
from glmserve.http.error_replies import ErrorEnvelope, prompt_in
from glmserve.http.offload import disconnected, read_request
from glmserve.http.openapi import documented
from glmserve.http.request_context import RequestContext
from glmserve.http.request_record import current_request
from glmserve.http.sse import Comment, Event, EventStream
from glmserve.model_pool.registry import ModelRegistry
from glmserve.model_pool.served_model import ServedModel

_TARGET = Target("/completions", generates=True)


def create_router(registry: ModelRegistry) -> APIRouter:
    """Return the route, answering from the models of ``registry``."""
    router = APIRouter()

    @router.post(
        "/v1/completions", **documented(TextCompletion, CompletionRequest, events=TextCompletion | ErrorEnvelope)
    )
    async def completions(request: Request) -> Response:
        """Complete texts, whole or as a stream of events."""
        body = await read_request(request, unless_passed(registry, parse_completion_request))
        if isinstance(body, Passed):
            return await pass_on(body, _TARGET, request, failure)
        model = registry.completer(body.model)
        context = current_request().context
        if body.stream:
            return await _stream(body, model, context)
        return await unless_gone(_complete(body, model, context), partial(disconnected, request))

    return router


async def _complete(body: CompletionRequest, model: ServedModel, context: RequestContext) -> Response:
    async with model.in_use():
        writer, generation = await _open(body, model, context)
        async with aclosing(generation):
            return JSONResponse(writer.whole(generation.completion([delta async for delta in generation])))


async def _stream(body: CompletionRequest, model: ServedModel, context: RequestContext) -> EventStream:
    """Open the stream; errors of the engine are raised here, before the status is sent."""
    async with model.in_use():
        writer, generation = await _open(body, model, context)
        return EventStream(generation, _events(writer, generation), failure)


async def _open(
    body: CompletionRequest, model: ServedModel, context: RequestContext
) -> tuple[CompletionWriter, Generation]:
    jobs = await to_jobs(body, model, context)
    writer = CompletionWriter(new_head("cmpl", model.card), body, jobs, model.tokenizer)
    with prompt_in("prompt"):
        requests = [streamed(job.request) if body.stream else job.request for job in jobs]
        return writer, await generate_all(model, requests, context)


async def _events(writer: CompletionWriter, generation: Generation) -> AsyncGenerator[Event | Comment, None]:
    opened: set[int] = set()
    async for delta in generation:
        if delta.progress is not None:
            yield progress_comment(delta.progress)
            continue
        prompt = writer.prompt_of(delta.index)
        if prompt not in opened:
            opened.add(prompt)
            for chunk in writer.echo(prompt, generation.prompt_logprobs(prompt)):
                yield Event(chunk)
        yield Event(writer.delta(delta))
    if writer.include_usage:
        yield Event(writer.usage(generation.usage))
    yield DONE
