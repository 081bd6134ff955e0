"""HTTP/1.1 with bounds on what uvicorn itself takes at any length: the head of a request, a reader who does not read.

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

from server.errors import HeadTooLarge, describe

log = logging.getLogger(__name__)

MAX_HEAD_BYTES = 64 * 1024
"""Of request line and headers together."""
MAX_HEADERS = 128
HEAD_SECONDS = 30.0
"""How long a caller may take to send them."""


class BoundedProtocol(HttpToolsProtocol):
    """Refuses a head that is too large (431), and hangs up on one that takes too long, or who does not read."""

    stall_seconds = 60.0
    """How long a caller may take nothing of what waits for it; 0 is for ever."""

    is_stopping: Callable[[], bool] = staticmethod(lambda: False)
    """Whether the server ends, so that callers should come back by another connection, which may lead elsewhere."""

    _in_head = False
    _head_bytes = 0
    """Of what the parser has given out."""
    _unfinished = 0
    """Of what it may still hold back: a header that does not end."""
    _too_large = False
    _timer: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
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

    def on_message_begin(self) -> None:
        """Begin a head."""
        super().on_message_begin()
        if not self.flow.write_paused:
            self._end_stall()  # what waits from now on is of another reply
        self._in_head = True
        self._head_bytes = self._unfinished = 0
        self._wait_for_head()

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

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request, in the envelope of all errors, and hang up."""
        if not self._too_large:
            return super().send_400_response(msg)
        reply = describe(HeadTooLarge(MAX_HEAD_BYTES, MAX_HEADERS))
        body = json.dumps(reply.envelope()).encode()
        head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[reply.status] + head.encode() + body)
        return self.transport.close()

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES or len(self.headers) >= MAX_HEADERS:
            self._too_large = True
            raise HeadTooLarge(MAX_HEAD_BYTES, MAX_HEADERS)  # the parser stops, and uvicorn sends the 400 above

    def on_response_complete(self) -> None:
        """Look whether the caller reads the rest."""
        super().on_response_complete()
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

    def _wait_for_head(self) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def bounded_protocol(stall_seconds: float, is_stopping: Callable[[], bool]) -> type[BoundedProtocol]:
    """Return the protocol of one server; uvicorn makes an instance for each connection."""
    bounds = {"stall_seconds": stall_seconds, "is_stopping": staticmethod(is_stopping)}
    return type("ServedProtocol", (BoundedProtocol,), bounds)
