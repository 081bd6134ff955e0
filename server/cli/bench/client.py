"""From the bytes of a streamed answer, and when each came, to its text and times. Pure.

Done after the measurement: what a client does between two pieces of an answer takes time from the server beside it.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httptools

from glmserve.cli.bench.workloads import Client, Workload


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


_UNDER_WAY = 8
"""Pieces that an answer must have had before the late clients come."""


class BenchClient:
    """Asks one model of one server, streamed, greedy, and for exactly as many tokens as are wanted.

    Each request has a connection of its own, and its bytes are only kept while anything is measured: a client
    that works beside the server on the same cores would measure itself.
    """

    def __init__(
        self,
        url: str,
        model: str,
        max_tokens: int | None = None,
        extra: Mapping[str, object] | None = None,
        *,
        key: str = "",
    ) -> None:
        """Measure the server at ``url``, which is without ``/v1``.

        ``max_tokens`` stands in for that of every client; ``extra`` goes into the body of every request; ``key`` is
        an API key, where the server asks for one.
        """
        parts = urlsplit(url)
        self._host, self._tls = parts.hostname or "127.0.0.1", parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._path = f"{parts.path.rstrip('/')}/v1/chat/completions"
        self._model = model
        self._max_tokens = max_tokens
        self._extra = dict(extra or {})
        self._authorization = f"Authorization: Bearer {key}\r\n" if key else ""

    async def run(self, workload: Workload, on_answer: Callable[[], object] = lambda: None) -> tuple[RequestTimes, ...]:
        """Let all clients of ``workload`` ask at once; ``on_answer`` is called at each answer's end.

        Raises:
            BenchError: an answer failed; the others are given up.
        """
        start = _Start(sum(not client.late for client in workload.clients))
        asking = [asyncio.ensure_future(self._converse(client, start, on_answer)) for client in workload.clients]
        try:
            chats = await asyncio.gather(*asking)
        except OSError as error:
            raise BenchError(f"the server cannot be reached: {error}") from error
        finally:
            for task in asking:
                task.cancel()
        return tuple(times for chat in chats for times in chat)

    async def _converse(self, client: Client, start: "_Start", on_answer: Callable[[], object]) -> list[RequestTimes]:
        if client.late:
            await start.all_under_way.wait()
        max_tokens = self._max_tokens or client.max_tokens
        messages: list[dict[str, str]] = []
        all_times = []
        for question in client.questions:
            messages = [*(messages if client.history else ()), {"role": "user", "content": question}]
            began = time.monotonic()
            ended, reply = await self._ask(messages, max_tokens, None if client.late else start)
            messages.append({"role": "assistant", "content": "".join(reply.texts)})
            all_times.append(
                RequestTimes(
                    started=began,
                    chunks=tuple(reply.times),
                    ended=ended,
                    prompt_tokens=reply.prompt_tokens,
                    cached_tokens=reply.cached_tokens,
                    completion_tokens=reply.completion_tokens or max_tokens,
                    late=client.late,
                )
            )
            on_answer()
        return all_times

    async def _ask(
        self, messages: list[dict[str, str]], max_tokens: int, start: "_Start | None"
    ) -> tuple[float, StreamedReply]:
        """Return the time at which the reply ended, and the reply."""
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        connection = _Connection(ended, start)
        transport, _ = await loop.create_connection(lambda: connection, self._host, self._port, ssl=self._tls or None)
        try:
            transport.write(self._request(messages, max_tokens))
            return await ended, read_reply(connection.pieces)
        finally:
            transport.close()

    def _request(self, messages: list[dict[str, str]], max_tokens: int) -> bytes:
        body = json.dumps(
            {
                "model": self._model,
                "messages": messages,
                "stream": True,
                "stream_options": {"include_usage": True},
                "temperature": 0,
                "max_tokens": max_tokens,
                "ignore_eos": True,
                **self._extra,
            }
        ).encode()
        head = (
            f"POST {self._path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nConnection: close\r\n"
            f"{self._authorization}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


class _Start:
    """When the late clients of a workload come."""

    def __init__(self, clients: int) -> None:
        self._missing = clients
        self.all_under_way = asyncio.Event()

    def one_under_way(self) -> None:
        self._missing -= 1
        if self._missing <= 0:
            self.all_under_way.set()


class _Connection(asyncio.Protocol):
    """The pieces of one reply, until the server closes."""

    def __init__(self, ended: "asyncio.Future[float]", start: _Start | None) -> None:
        self.pieces: list[tuple[float, bytes]] = []
        self._ended = ended
        self._start = start

    def data_received(self, data: bytes) -> None:
        self.pieces.append((time.monotonic(), data))
        if len(self.pieces) == _UNDER_WAY:
            self._count()

    def connection_lost(self, exc: Exception | None) -> None:
        self._count()
        if self._ended.done():
            return
        if exc is not None:
            self._ended.set_exception(exc)
        else:
            self._ended.set_result(self.pieces[-1][0] if self.pieces else time.monotonic())

    def _count(self) -> None:
        if self._start is not None:
            self._start.one_under_way()
            self._start = None
