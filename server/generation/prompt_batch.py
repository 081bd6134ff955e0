"""Several prompts of one request: admitted all or none, and answered together."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence

from anyio import CancelScope

from glmserve.generation.generate import (
    Completion,
    Generation,
    GenerationRequest,
    Usage,
    cancel_all,
    completion,
    generate,
)
from glmserve.generation.output_processor import TextDelta
from glmserve.http.request_context import RequestContext
from glmserve.model_pool.registry import ServedModel

SEQUENCES_AT_MOST = 128
"""Limit for one request: OpenAI's bound of ``n``. Callers take turns, so one request does not shut out others."""


class PromptBatch:
    """The running generations of several prompts. Iterate once; close it on every path."""

    def __init__(self, generations: Sequence[Generation]) -> None:
        """Take over ``generations``, one for each prompt."""
        self._generations = tuple(generations)
        self._pending: dict[asyncio.Task[TextDelta | None], int] = {}
        self._deltas = self._merge()

    @property
    def usage(self) -> Usage:
        """Counts up to now, of all prompts."""
        return total(generation.usage for generation in self._generations)

    def __getitem__(self, prompt: int) -> Generation:
        """Return the generation of a prompt."""
        return self._generations[prompt]

    def __aiter__(self) -> AsyncIterator[tuple[int, TextDelta]]:
        """Return the pieces of all answers as they come, each with the number of its prompt."""
        return self._deltas

    async def completions(self) -> tuple[Completion, ...]:
        """Return the whole answers to every prompt, in place of the pieces. Raises EngineError."""
        parts: list[list[TextDelta]] = [[] for _ in self._generations]
        async for prompt, delta in self:
            parts[prompt].append(delta)
        return tuple(map(completion, self._generations, parts))

    async def aclose(self) -> None:
        """Abort the running sequences."""
        with CancelScope(shield=True):  # see Generation.aclose
            await self._deltas.aclose()
            await cancel_all(tuple(self._pending))
            for generation in self._generations:
                await generation.aclose()

    async def _merge(self) -> AsyncGenerator[tuple[int, TextDelta], None]:
        iterators = [aiter(generation) for generation in self._generations]
        self._pending = {_next(each): index for index, each in enumerate(iterators)}
        while self._pending:
            done, _ = await asyncio.wait(self._pending, return_when=asyncio.FIRST_COMPLETED)
            for task in [task for task in self._pending if task in done]:
                delta = task.result()
                index = self._pending.pop(task)
                if delta is not None:
                    self._pending[_next(iterators[index])] = index
                    yield index, delta


def total(usages: Iterable[Usage]) -> Usage:
    """Return the sum of the token counts."""
    parts = tuple(usages)
    return Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in parts),
        completion_tokens=sum(usage.completion_tokens for usage in parts),
        cached_tokens=sum(usage.cached_tokens for usage in parts),
    )


async def generate_all(
    model: ServedModel, requests: Sequence[GenerationRequest], context: RequestContext
) -> PromptBatch:
    """Hand all of ``requests`` to the model's engine and return the running batch, which the caller closes.

    Raises:
        RequestRejected: the engine does not take one of them; nothing is left running.
        EngineUnavailable: there is no engine to take them.
    """
    running: list[Generation] = []
    try:
        for request in requests:
            running.append(await generate(model, request, context))
    except BaseException:
        await PromptBatch(running).aclose()
        raise
    return PromptBatch(running)


def _next(deltas: AsyncIterator[TextDelta]) -> asyncio.Task[TextDelta | None]:
    async def one() -> TextDelta | None:
        return await anext(deltas, None)

    return asyncio.create_task(one())
