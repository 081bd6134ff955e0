"""The connection to an upstream: requests, streams, and whether it answers."""

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.cookiejar import DefaultCookiePolicy

import httpx
from anyio import CancelScope, move_on_after

from glmserve.http.errors import UpstreamDied, UpstreamError, UpstreamFailed, UpstreamTimedOut, UpstreamUnreachable
from glmserve.http.offload import off_loop
from glmserve.upstream.replies import EventReader, Json, choices_in, failure_in, parsed, rejection

log = logging.getLogger(__name__)

MOST_REPLY_BYTES = 256 << 20
"""Of a reply that does not stream: 2,048 vectors of 4,096 numbers take 180 MB."""
_MOST_ERROR_BYTES = 64 << 10
_ERROR_S = 5.0
_CONNECT_S = 5.0
_WRITE_S = 60.0
_IDLE_S = 2.0
"""How long an unused connection is kept: servers close theirs after five seconds, and not to meet that is simpler."""
_LAST_BYTES_S = 0.5
"""For the end of a stream after its last event, so that the connection can be used again."""
_DONE = b"[DONE]"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model is."""

    url: str
    """Of its API, such as ``http://10.0.0.7:8000/v1``."""
    model: str
    """Its name there."""
    key: str = field(default="", repr=False)
    timeout: float = 600.0
    """Seconds in which nothing comes."""


class Connection:
    """HTTP to one upstream, and to nothing else: no redirect is followed, no proxy used, no cookie kept."""

    def __init__(self, place: Place) -> None:
        """Nothing is opened yet."""
        self.place = place
        self._timeout = httpx.Timeout(place.timeout, connect=_CONNECT_S, write=_WRITE_S, pool=None)
        self._client: httpx.AsyncClient | None = None

    @property
    def client(self) -> httpx.AsyncClient:
        """The client, made at its first use."""
        if self._client is None:
            key = {"Authorization": f"Bearer {self.place.key}"} if self.place.key else {}
            self._client = httpx.AsyncClient(
                headers={"User-Agent": "glmserve", "Accept-Encoding": "identity", **key},
                verify=ssl.create_default_context() if self.place.url.startswith("https:") else False,
                timeout=self._timeout,
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=_IDLE_S),
                follow_redirects=False,
                trust_env=False,
            )
            self._client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        return self._client

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def get(self, path: str, seconds: float) -> bytes:
        """Return the object at ``path``. Raises UpstreamError."""
        request = self.client.build_request("GET", self.place.url + path, timeout=seconds)
        async with self._reply(request) as response:
            return await _whole(response, _MOST_ERROR_BYTES * 16)

    async def post(self, path: str, body: Mapping[str, object], request_id: str) -> dict[str, object]:
        """Return the reply to ``body``, a JSON object. Being cancelled closes the connection.

        Raises:
            UpstreamError: there is none, or it is an error.
        """
        async with self._reply(await self._request(path, body, request_id)) as response:
            data = await _whole(response, MOST_REPLY_BYTES)
        reply = await off_loop(partial(parsed, data), len(data))
        if fault := failure_in(reply):
            raise fault
        return reply

    async def stream(self, path: str, body: Mapping[str, object], request_id: str) -> "EventSource":
        """Return the events of the reply to ``body``, which the caller closes.

        Raises:
            UpstreamError: there is no stream, or it is an error.
        """
        response = await self._send(await self._request(path, body, request_id))
        source = EventSource(response)
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            await source.aclose()
            raise UpstreamFailed("the server that runs the model does not stream")
        return source

    async def _request(self, path: str, body: Mapping[str, object], request_id: str) -> httpx.Request:
        content = await off_loop(lambda: json.dumps(body, separators=(",", ":")).encode())
        headers = {"Content-Type": "application/json", "X-Request-Id": request_id}
        return self.client.build_request("POST", self.place.url + path, content=content, headers=headers)

    @asynccontextmanager
    async def _reply(self, request: httpx.Request) -> AsyncIterator[httpx.Response]:
        response = await self._send(request)
        try:
            yield response
        finally:
            with CancelScope(shield=True):
                await response.aclose()

    async def _send(self, request: httpx.Request) -> httpx.Response:
        """Return a reply with status 200, of which only the head has been read. Raises UpstreamError."""
        try:
            response = await self.client.send(request, stream=True)
        except httpx.HTTPError as error:
            raise lost(error) from None
        if response.status_code == 200 and response.headers.get("content-encoding", "identity") == "identity":
            return response
        try:
            if response.status_code == 200:
                raise UpstreamFailed("the server that runs the model sends compressed replies, which nobody asked for")
            data = await _beginning(response)
            raise rejection(response.status_code, response.headers.get("retry-after", ""), data)
        finally:
            with CancelScope(shield=True):
                await response.aclose()


def lost(error: httpx.HTTPError) -> UpstreamError:
    """Return the error of a connection that failed."""
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        reason = str(error) if isinstance(error, httpx.ConnectError) and str(error) else "no answer"
        return UpstreamUnreachable(f"the server that runs the model cannot be reached ({reason}); try again later")
    if isinstance(error, httpx.ReadTimeout):
        return UpstreamTimedOut("the server that runs the model sent nothing for too long (upstream_timeout)")
    reason = str(error) or type(error).__name__
    return UpstreamDied(f"the server that runs the model ended the connection: {reason}")


async def _whole(response: httpx.Response, most: int) -> bytes:
    """Return the body of ``response``. Raises UpstreamError, also where it is longer than ``most`` bytes."""
    data = bytearray()
    try:
        async for chunk in response.aiter_raw():
            data += chunk
            if len(data) > most:
                raise UpstreamFailed(f"the server that runs the model sent a reply of more than {most} bytes")
    except httpx.HTTPError as error:
        raise lost(error) from None
    return bytes(data)


async def _beginning(response: httpx.Response) -> bytes:
    """Return as much of an error reply as is read; nothing where it does not come."""
    data = bytearray()
    with suppress(httpx.HTTPError), move_on_after(_ERROR_S):
        async for chunk in response.aiter_raw():
            data += chunk
            if len(data) >= _MOST_ERROR_BYTES:
                break
    return bytes(data[:_MOST_ERROR_BYTES])


class EventSource:
    """The events of a stream. Reads no further than it is asked to, so a slow reader slows the upstream down."""

    def __init__(self, response: httpx.Response) -> None:
        """Take over ``response``."""
        self._response = response
        self._chunks = response.aiter_raw()
        self._reader = EventReader()
        self._ready: list[bytes] = []
        self._finished = False
        """A choice has had its end, so that an end without ``[DONE]`` is none too early."""

    async def next_event(self) -> dict[str, object] | None:
        """Return the next event, or None after the last one.

        Raises:
            UpstreamDied: the stream ended before its end.
            UpstreamError: it is no stream, or has an error in it.
        """
        while not self._ready:
            try:
                data = await anext(self._chunks)
            except StopAsyncIteration:
                if self._finished:
                    return None
                raise UpstreamDied("the server that runs the model ended the answer before its end") from None
            except httpx.HTTPError as error:
                raise lost(error) from None
            self._ready = list(self._reader.feed(data))
            self._ready.reverse()
        data = self._ready.pop()
        if data.strip() == _DONE:
            await self._end()
            return None
        event = parsed(data)
        if fault := failure_in(event):
            raise fault
        self._finished = self._finished or _is_end(event)
        return event

    async def _end(self) -> None:
        with suppress(httpx.HTTPError, TimeoutError, asyncio.TimeoutError, StopAsyncIteration):
            await asyncio.wait_for(anext(self._chunks), _LAST_BYTES_S)

    async def aclose(self) -> None:
        """Close the stream; the upstream aborts an unfinished answer. May be called again."""
        with CancelScope(shield=True):
            await self._response.aclose()


def _is_end(event: Json) -> bool:
    return any(choice.get("finish_reason") is not None for choice in choices_in(event))
