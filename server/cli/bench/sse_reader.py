"""From the bytes of a streamed answer, and when each came, to its text and times. Pure.

Done after the measurement: what a client does between two pieces of an answer takes time from the server beside it.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

import httptools


class BenchError(Exception):
    """The server cannot be measured; one line."""


@dataclass(frozen=True, slots=True)
class RequestTimes:
    """One streamed answer; times are seconds of one monotonic clock."""

    started: float
    chunks: tuple[float, ...]
    """When each piece of text came."""
    ended: float
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    late: bool = False
    """Asked while others were in the middle of their answers."""


@dataclass(slots=True)
class StreamedReply:
    """Content of one HTTP reply of server-sent events."""

    texts: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    """When each of ``texts`` came."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    """The counts are 0 where the server tells none."""


def read_reply(pieces: Iterable[tuple[float, bytes]]) -> StreamedReply:
    """Parse the bytes of a connection that carried one reply. Raises BenchError."""
    reader = _Reader()
    try:
        for when, data in pieces:
            reader.feed(when, data)
    except (httptools.HttpParserError, ValueError, LookupError, TypeError) as error:
        raise BenchError(f"the server did not answer as expected: {error!r}") from error
    reader.check()
    return reader.reply


class _Reader:
    """Takes apart HTTP, then lines, then events."""

    def __init__(self) -> None:
        self.reply = StreamedReply()
        self._http = httptools.HttpResponseParser(self)
        self._body = b""
        self._failed = ""
        self._complete = False
        self._now = 0.0

    def feed(self, when: float, data: bytes) -> None:
        self._now = when
        self._http.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """Called by the parser with the body."""
        if self._http.get_status_code() != 200:
            self._body += body
            return
        *lines, self._body = (self._body + body).split(b"\n")
        for line in lines:
            if line.startswith(b"data: "):
                self._event(line.removeprefix(b"data: ").rstrip())

    def check(self) -> None:
        """Raise BenchError unless a whole stream was read."""
        if self._failed or self._body or not self._complete:
            text = self._failed or self._body.decode(errors="replace")[:300]
            text = text or "the connection ended in the middle of an answer"
            raise BenchError(f"the server did not answer as expected: {text}")

    def _event(self, data: bytes) -> None:
        if data == b"[DONE]":
            self._complete = True
            return
        event = json.loads(data)
        if "error" in event:
            self._failed = str(event["error"])  # the parser hides what is raised in its callbacks
            return
        if usage := event.get("usage"):
            self.reply.prompt_tokens = usage["prompt_tokens"]
            self.reply.completion_tokens = usage["completion_tokens"]
            self.reply.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
        if event["choices"] and (text := event["choices"][0]["delta"].get("content")):
            self.reply.texts.append(text)
            self.reply.times.append(self._now)
