"""The events of a chat completion."""

from collections.abc import AsyncGenerator

from glmserve.api.openai.chat_completions.response import ChunkWriter
from glmserve.generation.generation import Generation
from glmserve.http.error_replies import ErrorReply
from glmserve.http.sse import Event, EventStream

DONE = Event("[DONE]")
"""Ends every stream of OpenAI's chunks."""


def chat_stream(generation: Generation, writer: ChunkWriter, n: int) -> EventStream:
    """Return ``generation``, which has ``n`` answers, as a stream that owns it."""
    return EventStream(generation, _events(generation, writer, n), failure)


def failure(reply: ErrorReply) -> tuple[Event, ...]:
    """Return the last events of a chunk stream that failed."""
    return Event(reply.envelope()), DONE


async def _events(generation: Generation, writer: ChunkWriter, n: int) -> AsyncGenerator[Event, None]:
    for index in range(n):
        yield Event(writer.role(index))
    async for delta in generation:
        for chunk in writer.delta(delta):
            yield Event(chunk)
    for chunk in writer.end(generation.usage, generation.timings):
        yield Event(chunk)
    yield DONE
