"""POST /v1/responses and the routes of stored responses.

A request is answered in three steps: look up the earlier response, run the model, store the result.
"""

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from glmserve.api.common.progress import progress_comment, streamed
from glmserve.api.openai.responses.conversation import (
    Item,
    conversation,
    stored_response,
)
from glmserve.api.openai.responses.protocol import ResponsesRequest
from glmserve.api.openai.responses.request import (
    Given,
    left,
    new_items,
    parse_given,
    to_params,
    to_prompt_params,
    with_defaults,
)
from glmserve.api.openai.responses.response import (
    InputItems,
    InputTokens,
    ResponseDeleted,
    ResponseEvent,
    ResponseObject,
    page,
    response_head,
)
from glmserve.api.openai.responses.response_store import ResponseStore, StoredResponse
from glmserve.api.openai.responses.stream import ResponseWriter
from glmserve.chat.tasks.task import Task, task_name
from glmserve.engine.errors import PromptTooLong
from glmserve.generation.generate import generate, unless_gone
from glmserve.generation.generation import Generation
from glmserve.generation.prepare import encode_prompt, to_request
from glmserve.http.error_replies import prompt_in
from glmserve.http.errors import (
    AddressNotFound,
    InvalidRequest,
    PreviousResponseNotFound,
    PromptNotFound,
    ResponseNotFound,
)
from glmserve.http.offload import disconnected, off_loop, read_request
from glmserve.http.openapi import GENERATES, Tag, documented
from glmserve.http.request_context import RequestContext
from glmserve.http.request_record import current_request
from glmserve.http.sse import Comment, Event, EventStream
from glmserve.model_pool.registry import ModelRegistry
from glmserve.model_pool.served_model import ServedModel
from glmserve.model_pool.task_model import TaskModel


@dataclass(frozen=True, slots=True)
class ResponseJob:
    """A request with the objects that it refers to."""

    body: ResponsesRequest
    model: ServedModel
    items: tuple[Item, ...]
    """The conversation, up to where the answer starts."""
    task: Task | None
    owner: str
    """Whose response it will be."""


@dataclass(frozen=True, slots=True)
class ResponsesService:
    """Creates responses from a registry of models, a store and tasks."""

    registry: ModelRegistry
    store: ResponseStore
    tasks: Mapping[str, Task]

    async def job(self, given: Given, owner: str) -> ResponseJob:
        """Return a request together with the task and the stored response that it refers to.

        Raises:
            InvalidRequest: it has nothing to answer, or two tasks to do.
            ModelNotFound: the model is not there.
            PromptNotFound: the stored prompt is not.
            PreviousResponseNotFound: the response before it is not, or not any more.
        """
        body = given.fields
        task = self._task(body)
        if task is not None:
            body = with_defaults(body, task)
        items = (*await self._earlier(body.previous_response_id, owner), *new_items(given, task))
        model = self.registry.get(body.model)
        if task is not None and model in self.registry.tasks:
            raise InvalidRequest(f"{model.card.name} is a task, so it accepts no stored prompt", param="prompt")
        return ResponseJob(body, model, items, task, owner)

    async def complete(self, job: ResponseJob, context: RequestContext) -> ResponseObject:
        """Return the whole response."""
        async with job.model.in_use():
            items, generation, writer = await self._begin(job, context)
        async with aclosing(generation):
            async for delta in generation:
                writer.feed(delta)
        writer.finish(generation.usage)
        self._keep(job, items, writer)
        return writer.response

    async def stream(self, job: ResponseJob, context: RequestContext) -> EventStream:
        """Return the response as a stream; errors of the engine are raised here."""
        async with job.model.in_use():
            items, generation, writer = await self._begin(job, context)
        return EventStream(generation, self._events(job, items, generation, writer), writer.fail)

    async def count(self, job: ResponseJob, context: RequestContext) -> int:
        """Return how many tokens the prompt has."""
        async with job.model.in_use():
            with prompt_in("input"):
                _check_length(job)
                params = await off_loop(partial(to_prompt_params, job.body, job.items), context.body_bytes)
                return len((await encode_prompt(job.model, params, context)).encoded.told_ids)

    async def _begin(
        self, job: ResponseJob, context: RequestContext
    ) -> tuple[tuple[Item, ...], Generation, ResponseWriter]:
        """Return the truncated conversation, the running generation, and the writer of its response."""
        with prompt_in("input"):
            await self._pin(job)
            _check_length(job)
            translate = partial(to_params, job.body, job.items, job.task, job.model.card)
            params = await off_loop(translate, context.body_bytes)
            prompt = await encode_prompt(job.model, params.prompt, context)
            request = await to_request(job.model, params, prompt, context)
            request = streamed(request) if job.body.stream else request
            writer = ResponseWriter(response_head(job.body, job.model.card.name, request.params))
            items = left(job.items, prompt.start, job.model)
            return items, await generate(job.model, request, context), writer

    async def _pin(self, job: ResponseJob) -> None:
        """Keep the beginning of a stored prompt that nothing stands in front of, as the task of its name would."""
        if job.task is None or job.body.instructions or job.body.previous_response_id:
            return
        task = self.registry.find(task_name(job.model.card.name, job.task.id))
        if isinstance(task, TaskModel):
            await task.pin()

    async def _events(
        self, job: ResponseJob, items: tuple[Item, ...], generation: Generation, writer: ResponseWriter
    ) -> AsyncGenerator[Event | Comment, None]:
        for event in writer.start():
            yield event
        async for delta in generation:
            if delta.progress is not None:
                yield progress_comment(delta.progress)
                continue
            for event in writer.feed(delta):
                yield event
        events = writer.finish(generation.usage)
        self._keep(job, items, writer)
        for event in events:
            yield event

    def _task(self, body: ResponsesRequest) -> Task | None:
        if body.prompt is None:
            return None
        if body.prompt.id not in self.tasks:
            raise PromptNotFound(body.prompt.id, tuple(self.tasks))
        return self.tasks[body.prompt.id]

    async def _earlier(self, response_id: str | None, owner: str) -> tuple[Item, ...]:
        if response_id is None:
            return ()
        before = self.store.get(owner, response_id)
        if before is None:
            raise PreviousResponseNotFound(response_id, param="previous_response_id")
        # What it goes on from is work as its body is.
        current_request().body_bytes += before.size
        return await off_loop(partial(conversation, before))

    def _keep(self, job: ResponseJob, items: tuple[Item, ...], writer: ResponseWriter) -> None:
        """Store the response with the items that the model was given; items removed by truncation are not stored."""
        if job.body.store is not False:
            self.store.put(job.owner, stored_response(items, writer.response))


def _check_length(job: ResponseJob) -> None:
    """Reject a conversation with more items than the context has tokens. Raises PromptTooLong."""
    if job.body.truncation != "auto" and len(job.items) > job.model.context_length:
        raise PromptTooLong(len(job.items), job.model.context_length)


_JSON = "application/json"
_ONE = "/v1/responses/{response_id}"
_COMPACT = "/v1/responses/compact"
_ERRORS = (*GENERATES, PromptNotFound)


def create_router(service: ResponsesService) -> APIRouter:
    """Return the routes, answering and storing as ``service`` does."""
    router = APIRouter()
    _add_creation(router, service)
    _add_unsupported(router)
    _add_stored(router, service)
    return router


def _add_creation(router: APIRouter, service: ResponsesService) -> None:
    @router.post("/v1/responses", **documented(ResponseObject, ResponsesRequest, events=ResponseEvent, errors=_ERRORS))
    async def create_response(request: Request) -> Response:
        """Answer a conversation, whole or as a stream of events."""
        job = await service.job(await read_request(request, parse_given), _owner())
        context = current_request().context
        if job.body.stream:
            return await service.stream(job, context)
        return JSONResponse(await unless_gone(service.complete(job, context), partial(disconnected, request)))

    @router.post(
        "/v1/responses/input_tokens", **documented(InputTokens, ResponsesRequest, errors=_ERRORS, tag=Tag.TEXT)
    )
    async def count_input_tokens(request: Request) -> Response:
        """Count the tokens of a prompt."""
        job = await service.job(await read_request(request, parse_given), _owner())
        tokens = await service.count(job, current_request().context)
        return JSONResponse({"object": "response.input_tokens", "input_tokens": tokens})


def _add_unsupported(router: APIRouter) -> None:
    @router.post(_COMPACT, include_in_schema=False)
    async def compact_conversation() -> Response:
        """Explain that compaction is not supported; without this route the path would mean a stored response."""
        hint = 'to have long conversations cut, send "truncation": "auto" to /v1/responses'
        raise AddressNotFound("POST", _COMPACT, hint)


def _add_stored(router: APIRouter, service: ResponsesService) -> None:
    @router.get(_ONE, **documented(ResponseObject, errors=(ResponseNotFound, InvalidRequest), tag=Tag.TEXT))
    async def retrieve_response(request: Request, response_id: str) -> Response:
        """Return a stored response."""
        found = _found(service, response_id)
        if request.query_params.get("stream") == "true":
            raise InvalidRequest("a stored response cannot be streamed again; leave stream out", param="stream")
        return Response(found.reply, media_type=_JSON)

    @router.delete(_ONE, **documented(ResponseDeleted, errors=(ResponseNotFound,), tag=Tag.TEXT))
    async def delete_response(response_id: str) -> Response:
        """Delete a stored response."""
        if not service.store.delete(_owner(), response_id):
            raise ResponseNotFound(response_id)
        return JSONResponse({"id": response_id, "object": "response", "deleted": True})

    @router.get(
        f"{_ONE}/input_items", **documented(InputItems, errors=(ResponseNotFound, InvalidRequest), tag=Tag.TEXT)
    )
    async def list_input_items(request: Request, response_id: str) -> Response:
        """List the input items of a stored response, including the items of the responses before it."""
        found = _found(service, response_id)
        query = dict(request.query_params)
        return await off_loop(
            lambda: JSONResponse(page([json.loads(text) for text in found.inputs], query)), found.size
        )

    @router.post(
        f"{_ONE}/cancel", **documented(ResponseObject, errors=(ResponseNotFound, InvalidRequest), tag=Tag.TEXT)
    )
    async def cancel_response(response_id: str) -> Response:
        """Reject: only background responses could be cancelled, and this server has none."""
        _found(service, response_id)
        raise InvalidRequest(
            "only background responses can be cancelled, which this server does not have", param="response_id"
        )


def _found(service: ResponsesService, response_id: str) -> StoredResponse:
    found = service.store.get(_owner(), response_id)
    if found is None:
        raise ResponseNotFound(response_id)
    return found


def _owner() -> str:
    return current_request().key
