"""A generation as server-sent events."""

import json
import logging
from collections.abc import AsyncGenerator, Mapping

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Receive, Scope, Send

from server.errors import describe, is_expected
from server.generation import Generation
from server.openai.replies import ChunkWriter

log = logging.getLogger(__name__)

_SEPARATOR = "\n"
"""Clients split events at two line feeds; the library's own default is CR LF."""
_PING_S = 30
_DONE = "[DONE]"
# Characters that JSON leaves alone and that many a client's line splitter takes for an end of line.
_LINE_ENDS = str.maketrans({"\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"})


class ChatStream(EventSourceResponse):
    """Streams a generation, and closes it whatever way the connection ends."""

    def __init__(self, generation: Generation, writer: ChunkWriter, n: int) -> None:
        """Take over ``generation``, which has ``n`` answers."""
        super().__init__(_events(generation, writer, n), sep=_SEPARATOR, ping=_PING_S, ping_message_factory=_ping)
        self._generation = generation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._generation.aclose()


async def _events(generation: Generation, writer: ChunkWriter, n: int) -> AsyncGenerator[str, None]:
    """Yield the data of every event; what fails on the way becomes an error event, the status being sent."""
    try:
        async for chunk in _chunks(generation, writer, n):
            yield _encode(chunk)
    except Exception as error:
        if not is_expected(error):
            log.exception("unhandled error in a stream")
        yield _encode(describe(error).envelope())
    yield _DONE


async def _chunks(generation: Generation, writer: ChunkWriter, n: int) -> AsyncGenerator[dict[str, object], None]:
    for index in range(n):
        yield writer.role(index)
    async for delta in generation:
        for chunk in writer.delta(delta):
            yield chunk
    if writer.include_usage:
        yield writer.usage(generation.usage)


def _encode(chunk: Mapping[str, object]) -> str:
    return json.dumps(chunk, ensure_ascii=False, separators=(",", ":")).translate(_LINE_ENDS)


def _ping() -> ServerSentEvent:
    return ServerSentEvent(comment="ping", sep=_SEPARATOR)
