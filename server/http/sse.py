"""A generation as server-sent events, in any API format."""

import json
import logging
import re
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Receive, Scope, Send

from glmserve.http.error_replies import ErrorReply, describe, is_expected
from glmserve.http.request_record import current_request

log = logging.getLogger(__name__)

_SEPARATOR = "\n"
"""Clients split events at two line feeds; the library's own default is CR LF."""
_PING_S = 30
# Characters that JSON leaves alone and that many a client's line splitter takes for an end of line.
_LINE_ENDS = re.compile("[\x85\u2028\u2029]")
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Event:
    """One event: an object sent as JSON, or a line sent unchanged; with a name, if it has one."""

    data: Mapping[str, object] | str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Comment:
    """A line that clients skip, which shows to people, and to proxies, that something goes on."""

    text: str


class Closable(Protocol):
    """The source of a stream, closed with it."""

    async def aclose(self) -> None:
        """Free its resources."""


class EventStream(EventSourceResponse):
    """Streams events, and closes their source however the connection ends."""

    def __init__(
        self,
        source: Closable,
        events: AsyncGenerator[Event | Comment, None],
        on_error: Callable[[ErrorReply], Iterable[Event]],
    ) -> None:
        """Take over a source and its events.

        Args:
            source: usually the generation; closed at the end.
            events: all of the stream.
            on_error: the events that end a stream in which something failed, as the status has been sent by then.
        """
        super().__init__(_sent(events, on_error), sep=_SEPARATOR, ping=_PING_S, ping_message_factory=_ping)
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._source.aclose()


async def _sent(
    events: AsyncGenerator[Event | Comment, None], on_error: Callable[[ErrorReply], Iterable[Event]]
) -> AsyncGenerator[bytes, None]:
    async with aclosing(events):
        try:
            async for event in events:
                yield _framed(event)
        except Exception as error:
            if not is_expected(error):
                log.exception("unhandled error in a stream")
            reply = describe(error)
            record = current_request()
            record.failed, record.rejection = True, reply.code or ""
            for event in on_error(reply):
                yield _framed(event)


def _framed(event: Event | Comment) -> bytes:
    if isinstance(event, Comment):
        return f": {event.text}{_SEPARATOR}{_SEPARATOR}".encode()
    # By hand, as this is done for every token: JSON has no line feeds, which are what the library looks for.
    data = event.data if isinstance(event.data, str) else _encode(event.data)
    name = "" if event.name is None else f"event: {event.name}{_SEPARATOR}"
    return f"{name}data: {data}{_SEPARATOR}{_SEPARATOR}".encode()


def _encode(data: Mapping[str, object]) -> str:
    return _LINE_ENDS.sub(lambda found: f"\\u{ord(found[0]):04x}", _ENCODER.encode(data))


def _ping() -> ServerSentEvent:
    return ServerSentEvent(comment="ping", sep=_SEPARATOR)
