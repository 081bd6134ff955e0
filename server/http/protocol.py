"""HTTP/1.1 with bounds on what uvicorn takes in any number, size or time.

These are connections, the head of a request, requests ahead of their answers, and a reader who does not read.

What is sent and not read is bounded: the system holds what ``server.serving.bind`` says, the transport 64 KiB and one
message beyond that, and then whoever sends waits, until it is told that the caller is gone.
"""

import asyncio
import contextlib
import fcntl
import json
import logging
import struct
import termios
from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from server.errors import HeadTooLarge, TooManyConnections, describe
from server.http.connections import Connections

log = logging.getLogger(__name__)

MAX_HEAD_BYTES = 64 * 1024
"""Of request line and headers together."""
MAX_HEADERS = 128
HEAD_SECONDS = 30.0
"""How long a caller may take to send them."""
REST_SECONDS = 5.0
"""How long the rest of a body may take that was answered before it had come."""
MOST_AHEAD = 16
"""Requests that may be sent on a connection before the first of them is answered."""


class BoundedProtocol(HttpToolsProtocol):
    """Refuses a head that is too large (431), and hangs up on one that takes too long, or who does not read."""

    open_connections: Connections
    """Those of the server."""

    stall_seconds: float
    """How long a caller may take nothing of what waits for it; 0 is for ever."""

    is_stopping: Callable[[], bool]
    """Whether the server ends, so that callers should come back by another connection, which may lead elsewhere."""

    _in_head = False
    _head_bytes = 0
    """Of what the parser has given out."""
    _unfinished = 0
    """Of what it may still hold back: a header that does not end."""
    _too_large = False
    _too_far_ahead = False
    _has_asked = False
    """The request is complete."""
    _timer: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        super().connection_made(transport)
        if self.open_connections.enter(self):
            self._hang_up_in(HEAD_SECONDS)
        else:
            self._refuse(TooManyConnections())

    def hang_up(self) -> None:
        """Close at once, whatever is still to be sent."""
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self.open_connections.leave(self)
        self._stop_waiting()
        self._end_stall()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Have whoever sends wait, and begin to look whether the caller reads."""
        super().pause_writing()
        self._look_for_progress()

    def resume_writing(self) -> None:
        """Go on."""
        self._end_stall()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Take in a piece of what the caller sends."""
        was_in_head = self._in_head
        super().data_received(data)
        if was_in_head and self._in_head and not self._too_large:
            self._unfinished += len(data)
            if self._unfinished > MAX_HEAD_BYTES:
                self._too_large = True
                self.send_400_response("")
        if self._is_answered and self._timer is None:
            self._hang_up_in(HEAD_SECONDS)  # uvicorn waits no more once anything comes, be it an empty line

    def on_message_begin(self) -> None:
        """Begin a head."""
        if len(self.pipeline) >= MOST_AHEAD:
            self._too_far_ahead = True
            raise ValueError("too many requests ahead of their answers")  # the parser stops
        super().on_message_begin()
        if not self.flow.write_paused:
            self._end_stall()  # what waits from now on is of another reply
        self._in_head = True
        self._has_asked = False
        self._head_bytes = self._unfinished = 0
        if self.cycle is None or self._is_answered:
            self.open_connections.owes(self)
        self._hang_up_in(HEAD_SECONDS)

    def on_url(self, url: bytes) -> None:
        """Count a piece of the request line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header."""
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """End the head."""
        self._in_head = False
        self._stop_waiting()
        super().on_headers_complete()
        if self.is_stopping():
            self.cycle.keep_alive = False  # uvicorn then says so in the reply

    def on_message_complete(self) -> None:
        """End a request."""
        self._has_asked = True
        self._stop_waiting()
        self.open_connections.asked(self)
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request, in the envelope of all errors, and hang up."""
        if self._too_far_ahead:
            return self.hang_up()
        if self._too_large:
            return self._refuse(HeadTooLarge(MAX_HEAD_BYTES, MAX_HEADERS))
        return super().send_400_response(msg)

    def _refuse(self, error: Exception) -> None:
        reply = describe(error)
        body = json.dumps(reply.envelope()).encode()
        fields = {"content-type": "application/json", "content-length": len(body), "connection": "close"}
        head = "".join(f"{name}: {value}\r\n" for name, value in {**fields, **reply.headers()}.items())
        self.transport.write(STATUS_LINE[reply.status] + head.encode() + b"\r\n" + body)
        self.transport.close()

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES or len(self.headers) >= MAX_HEADERS:
            self._too_large = True
            raise HeadTooLarge(MAX_HEAD_BYTES, MAX_HEADERS)  # the parser stops, and uvicorn sends the 400 above

    def on_response_complete(self) -> None:
        """Look whether the caller reads the rest, and ends what he sends."""
        super().on_response_complete()
        if self._is_answered:
            self.open_connections.owes(self)
            if not self._has_asked and not self._in_head:
                self._hang_up_in(REST_SECONDS)
        self._look_for_progress()

    def _look_for_progress(self) -> None:
        """Look again in a while, and hang up where none has gone by then of the bytes that wait now."""
        self._end_stall()
        if not self.stall_seconds or not self.transport.get_write_buffer_size():
            return
        before = self._unread_bytes()

        def look() -> None:
            if self._unread_bytes() < before:
                self._look_for_progress()
            else:
                log.warning("a caller took nothing for %g s (--stall-seconds) and was dropped", self.stall_seconds)
                self.transport.abort()

        self._stall = self.loop.call_later(self.stall_seconds, look)

    def _unread_bytes(self) -> int:
        """Return how much the caller has not taken, here and in the system.

        The system takes more only once a good part of what it has is gone: that alone would look like a stall.
        """
        waiting = self.transport.get_write_buffer_size()
        with contextlib.suppress(OSError):  # no socket of a kind that can be asked
            descriptor = self.transport.get_extra_info("socket").fileno()
            waiting += struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)))[0]
        return waiting

    def _end_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    @property
    def _is_answered(self) -> bool:
        """Whether there was a request, and the last one of which a head has come was answered."""
        return self.cycle is not None and self.cycle.response_complete

    def _hang_up_in(self, seconds: float) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(seconds, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def bounded_protocol(
    stall_seconds: float = 60.0,
    is_stopping: Callable[[], bool] = lambda: False,
    most_connections: int = 4096,
) -> type[BoundedProtocol]:
    """Return the protocol of one server; uvicorn makes an instance for each connection."""
    bounds = {
        "stall_seconds": stall_seconds,
        "is_stopping": staticmethod(is_stopping),
        "open_connections": Connections(most_connections),
    }
    return type("ServedProtocol", (BoundedProtocol,), bounds)
