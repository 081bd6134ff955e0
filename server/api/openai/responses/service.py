"""From a checked request to a response: look up the earlier one, run the model, store the result."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from glmserve.api.openai.responses.input_items import Item, conversation, kept
from glmserve.api.openai.responses.protocol import ResponsesRequest
from glmserve.api.openai.responses.request import Given, left, new_items, to_params, to_prompt_params, with_defaults
from glmserve.api.openai.responses.response import ResponseObject, response_head
from glmserve.api.openai.responses.store import ResponseStore
from glmserve.api.openai.responses.stream import ResponseWriter
from glmserve.chat.tasks.task import Task, task_name
from glmserve.engine.errors import PromptTooLong
from glmserve.generation.generate import generate
from glmserve.generation.generation import Generation
from glmserve.generation.prepare import encode_prompt, to_request
from glmserve.http.error_replies import prompt_in
from glmserve.http.errors import InvalidRequest, PreviousResponseNotFound, PromptNotFound
from glmserve.http.offload import off_loop
from glmserve.http.request_context import RequestContext
from glmserve.http.request_record import current_request
from glmserve.http.sse import Event, EventStream
from glmserve.model_pool.registry import ModelRegistry, ServedModel
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

    async def ask(self, given: Given, owner: str) -> ResponseJob:
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

    async def complete(self, ask: ResponseJob, context: RequestContext) -> ResponseObject:
        """Return the whole response."""
        async with ask.model.in_use():
            items, generation, writer = await self._begin(ask, context)
        async with aclosing(generation):
            async for delta in generation:
                writer.feed(delta)
        writer.finish(generation.usage)
        self._keep(ask, items, writer)
        return writer.response

    async def stream(self, ask: ResponseJob, context: RequestContext) -> EventStream:
        """Return the response as a stream; errors of the engine are raised here."""
        async with ask.model.in_use():
            items, generation, writer = await self._begin(ask, context)
        return EventStream(generation, self._events(ask, items, generation, writer), writer.fail)

    async def count(self, ask: ResponseJob, context: RequestContext) -> int:
        """Return how many tokens the prompt has."""
        async with ask.model.in_use():
            with prompt_in("input"):
                _check_length(ask)
                params = await off_loop(partial(to_prompt_params, ask.body, ask.items), context.body_bytes)
                return len((await encode_prompt(ask.model, params, context)).encoded.ids)

    async def _begin(
        self, ask: ResponseJob, context: RequestContext
    ) -> tuple[tuple[Item, ...], Generation, ResponseWriter]:
        """Return the truncated conversation, the running generation, and the writer of its response."""
        with prompt_in("input"):
            await self._pin(ask)
            _check_length(ask)
            job = partial(to_params, ask.body, ask.items, ask.task, ask.model.card)
            params = await off_loop(job, context.body_bytes)
            prompt = await encode_prompt(ask.model, params.prompt, context)
            request = await to_request(ask.model, params, prompt, context)
            writer = ResponseWriter(response_head(ask.body, ask.model.card.name, request.params))
            items = left(ask.items, prompt.start, ask.model)
            return items, await generate(ask.model, request, context), writer

    async def _pin(self, ask: ResponseJob) -> None:
        """Keep the beginning of a stored prompt that nothing stands in front of, as the task of its name would."""
        if ask.task is None or ask.body.instructions or ask.body.previous_response_id:
            return
        task = self.registry.find(task_name(ask.model.card.name, ask.task.id))
        if isinstance(task, TaskModel):
            await task.pin()

    async def _events(
        self, ask: ResponseJob, items: tuple[Item, ...], generation: Generation, writer: ResponseWriter
    ) -> AsyncGenerator[Event, None]:
        for event in writer.start():
            yield event
        async for delta in generation:
            for event in writer.feed(delta):
                yield event
        events = writer.finish(generation.usage)
        self._keep(ask, items, writer)
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

    def _keep(self, ask: ResponseJob, items: tuple[Item, ...], writer: ResponseWriter) -> None:
        """Store the response with the items that the model was given; items removed by truncation are not stored."""
        if ask.body.store is not False:
            self.store.put(ask.owner, kept(items, writer.response))


def _check_length(ask: ResponseJob) -> None:
    """Reject a conversation with more items than the context has tokens. Raises PromptTooLong."""
    if ask.body.truncation != "auto" and len(ask.items) > ask.model.context_length:
        raise PromptTooLong(len(ask.items), ask.model.context_length)
