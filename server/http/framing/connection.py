"""A connection of uvicorn's whose requests have one reading each, and whose callers all get their answers."""

import asyncio
import contextlib
import json
import logging
import select
import socket
import urllib.parse
from typing import TYPE_CHECKING

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from glmserve.http.error_replies import describe, is_expected
from glmserve.http.framing.parser import Http1Parser, check_head, explained

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application, ASGISendEvent

log = logging.getLogger(__name__)

LINGER_SECONDS = 1.0
LINGER_BYTES = 256 * 1024
"""Limits of time and bytes for a client that still sends after an error reply. A connection that is closed earlier is
reset, and the client might never read the reply."""
LOOK_SECONDS = 0.25
"""Interval of checks whether a client that closed its sending side is still connected."""


class HangUp(Exception):
    """Raised by a callback of the parser to end the connection without a word."""


class Exchange(RequestResponseCycle):
    """Sends a reply of unknown length in chunks; to an HTTP/1.0 caller as it is, ended by the end of the connection."""

    _ends_with_connection = False

    @property
    def speaks_1_1(self) -> bool:
        """Whether the caller understands chunks and interim replies."""
        return self.scope["http_version"] != "1.0"

    async def send(self, message: "ASGISendEvent") -> None:
        """Send a part of the reply."""
        if message["type"] == "http.response.start" and not self.response_started:
            headers = [(name, value) for name, value in message.get("headers", []) if not _is_keep_alive(name, value)]
            message = {**message, "headers": headers}
            if not self.speaks_1_1 and not any(name.lower() == b"content-length" for name, _ in headers):
                self._ends_with_connection = self.chunked_encoding = True  # no Transfer-Encoding is added then
        elif message["type"] == "http.response.body" and self._ends_with_connection:
            self.chunked_encoding = False
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)


def _is_keep_alive(name: bytes, value: bytes) -> bool:
    """Return whether an application says so of a connection that is not its own: streams of sse-starlette do."""
    return name.lower() == b"connection" and value.lower() == b"keep-alive"


class StrictProtocol(HttpToolsProtocol):
    """Parses requests as HTTP/1.1 only, and rejects each one that a proxy might parse differently.

    A rejection comes in its turn, after the answers to the requests before it, and ends the connection.
    """

    _running: Exchange | None = None
    """The request that is being answered, or was answered last."""
    _in_head = False
    _in_body = False
    _rejection: Exception | None = None
    """Nothing that comes after the bytes that this rejects is parsed."""
    _ignored = 0
    """Bytes that came after them."""
    _sends_no_more = False
    """The caller has closed its sending side of the connection."""
    _has_probed = False
    """An interim reply was sent, to find out whether the caller is gone."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin with the parser that stays in HTTP/1.1."""
        super().connection_made(transport)
        self.parser = Http1Parser(self)  # type: ignore[assignment]

    def hang_up(self) -> None:
        """Close at once, without sending the rest."""
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Parse received bytes; uvicorn's own method would send an error before earlier replies are complete."""
        if self._rejection is not None:
            self._ignored += len(data)
            if self._ignored > LINGER_BYTES:
                self.hang_up()
            return
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            cause = error.__context__
            if isinstance(cause, HangUp):
                self.hang_up()
            elif isinstance(cause, Exception) and not isinstance(cause, httptools.HttpParserError):
                self.reject(cause)
            else:
                self.reject(explained(str(cause or error), data))

    def eof_received(self) -> bool:  # type: ignore[override]
        """Answer the requests that are complete, although nothing more comes; return whether there are any."""
        if not self._withdraw() or not self._is_busy:
            return False
        if not self._sends_no_more:
            self._sends_no_more = True
            self.cycle.keep_alive = False
            self._look_for_caller()
        return True

    def on_message_begin(self) -> None:
        """Begin a head."""
        super().on_message_begin()
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, unless it is a trailer: fields after a body must not count as part of the head."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Check the head and have the request answered; in place of uvicorn's, which knows one kind of exchange."""
        self._in_head = False
        version, method = self.parser.get_http_version(), self.parser.get_method().decode("ascii")
        check_head(version, method, self.headers)
        target = httptools.parse_url(self.url)
        raw_path = target.path or b"/"
        self.scope["method"], self.scope["http_version"] = method, version
        self.scope["path"] = self.root_path + urllib.parse.unquote(raw_path.decode("ascii"))
        self.scope["raw_path"] = self.root_path.encode("ascii") + raw_path
        self.scope["query_string"] = target.query or b""
        self._in_body = True
        self.cycle = self._exchange(version)
        if self._is_busy:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))
        else:
            self._start_asgi_task(self.cycle, self.app)

    def _exchange(self, version: str) -> Exchange:
        is_1_0 = version == "1.0"  # which knows neither "100 Continue" nor connections that stay
        return Exchange(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue and not is_1_0,
            keep_alive=self.parser.should_keep_alive() and not is_1_0,
            on_response=self.on_response_complete,
        )

    def _start_asgi_task(self, cycle: Exchange, app: "ASGI3Application") -> None:  # type: ignore[override]
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_message_complete(self) -> None:
        """End a request."""
        self._in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Start the next request, reject it, or end the connection."""
        super().on_response_complete()
        if self._is_busy:
            return
        if self._rejection is not None:
            self._send_rejection()
        elif self._sends_no_more:
            self.transport.close()

    def reject(self, error: Exception) -> None:
        """Answer with ``error`` once the requests before are answered, and end the connection."""
        self._rejection = error
        if not is_expected(error):
            log.error("a request could not be parsed", exc_info=error)
        if not self._withdraw():
            self.transport.close()
        elif not self._is_busy:
            self._send_rejection()

    def _withdraw(self) -> bool:
        """Drop a request whose body is incomplete and will stay so; return False if its reply has begun."""
        if not self._in_body:
            return True
        self._in_body = False
        if self.pipeline and self.pipeline[0][0] is self.cycle:
            self.pipeline.popleft()
            return True
        self.cycle.disconnected, self._running = True, None
        self.cycle.message_event.set()
        return not self.cycle.response_started

    def _send_rejection(self) -> None:
        assert self._rejection is not None
        reply = describe(self._rejection)
        log.info("rejected a request from %s: %s", self.client and self.client[0], reply.message)
        body = json.dumps(reply.envelope()).encode()
        fields = {
            "Content-Type": "application/json",
            "Content-Length": len(body),
            "Cache-Control": "no-store",
            "Connection": "close",
            **reply.headers(),
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.transport.write(STATUS_LINE[reply.status] + head.encode() + b"\r\n" + body)
        self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def _look_for_caller(self) -> None:
        """Check again and again whether a caller who sends no more is gone, which looks the same.

        The system of a caller who is gone answers each byte with a reset. An interim reply is such bytes, and a caller
        who waits ignores it (RFC 9110, 15.2).
        """
        if self.transport.is_closing() or self._running is None or not self._is_busy:
            return
        if _is_reset(self.transport.get_extra_info("socket")):
            self.hang_up()
            return
        if not self._has_probed and not self._running.response_started and self._running.speaks_1_1:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._has_probed = True
        self.loop.call_later(LOOK_SECONDS, self._look_for_caller)

    @property
    def _is_busy(self) -> bool:
        """Whether a request is being answered."""
        return self._running is not None and not self._running.response_complete


def _is_reset(connection: socket.socket) -> bool:
    """Return whether the peer rejected sent bytes: it no longer reads, and does not only end its own sending."""
    poll = select.poll()
    with contextlib.suppress(OSError, ValueError):
        poll.register(connection.fileno(), 0)
        return any(event & (select.POLLERR | select.POLLHUP | select.POLLNVAL) for _, event in poll.poll(0))
    return True
