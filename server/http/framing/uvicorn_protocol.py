"""HTTP/1.1 for uvicorn, with the bounds on number, size and time that uvicorn lacks.

These are connections, the head of a request, requests ahead of their answers, and a reader who does not read.

What is sent and not read is bounded: the system holds what ``listener.bind`` says, the transport 64 KiB and one
message beyond that, and then the sender waits, until it learns that the caller is gone.
"""

import asyncio
import contextlib
import fcntl
import logging
import struct
import termios
from collections.abc import Callable
from typing import Protocol

from glmserve.http.errors import HeaderFieldsTooLarge, MalformedRequest, TooManyConnections
from glmserve.http.framing.connection import HangUp, StrictProtocol

log = logging.getLogger(__name__)


class Connection(Protocol):
    """A connection that can be closed."""

    def hang_up(self) -> None:
        """Close at once."""


class Connections:
    """Connection limit. A connection with a request in progress is never closed for a new one.

    One owes a request from when it is opened, or was answered, until it has sent a whole one: it is idle, or slow. The
    one that began to do so longest ago goes first, which leaves honest callers all the time that the others let pass.
    """

    def __init__(self, most: int) -> None:
        """No connection is open."""
        self._most = most
        self._open: set[Connection] = set()
        self._idle: dict[Connection, None] = {}
        self._was_full = False

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, connection: Connection) -> bool:
        """Let ``connection`` in, which owes a request; False where all others are being answered."""
        if len(self._open) >= self._most:
            self._tell()
            if not self._idle:
                return False
            oldest = next(iter(self._idle))
            self.leave(oldest)
            oldest.hang_up()
        self._open.add(connection)
        self._idle[connection] = None
        return True

    def now_idle(self, connection: Connection) -> None:
        """It has been answered, or begins with a request."""
        if connection in self._open:
            self._idle.pop(connection, None)
            self._idle[connection] = None

    def now_busy(self, connection: Connection) -> None:
        """It has sent a whole request."""
        self._idle.pop(connection, None)

    def leave(self, connection: Connection) -> None:
        """It is closed; one that has left may do so again."""
        self._open.discard(connection)
        self._idle.pop(connection, None)
        if len(self._open) < self._most * 0.9:
            self._was_full = False

    def _tell(self) -> None:
        if not self._was_full:
            log.warning("%d connections are open (--max-connections); idle ones are closed for new ones", self._most)
        self._was_full = True


MAX_HEAD_BYTES = 64 * 1024
"""Of request line and headers together."""
MAX_HEADERS = 128
HEAD_SECONDS = 30.0
"""How long a caller may take to send them."""
REST_SECONDS = 5.0
"""How long the rest of a body may take that was answered before it had come."""
MOST_AHEAD = 16
"""Requests that may be sent on a connection before the first of them is answered."""
MOST_OVERHEAD = 16
"""Bytes of chunk sizes, extensions and trailers for each byte of a body, beyond ``MAX_HEAD_BYTES``."""


class BoundedProtocol(StrictProtocol):
    """Rejects a head that is too large (431), and disconnects a client that sends or reads too slowly."""

    open_connections: Connections
    """Open connections of the server."""

    stall_seconds: float
    """Seconds after which a client that reads nothing is disconnected; 0 is never."""

    is_stopping: Callable[[], bool]
    """Whether the server ends, so that callers should come back by another connection, which may lead elsewhere."""

    _head_bytes = 0
    """Bytes of the head that the parser has passed on."""
    _unfinished = 0
    """Bytes that the parser may still hold back: a header that does not end."""
    _overhead = 0
    """Of a body: bytes received beyond the framing that its content allows for."""
    _begun = 0
    """Requests that began in the bytes received last: the others of these bytes belong to earlier ones."""
    _timer: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        super().connection_made(transport)
        if self.open_connections.enter(self):
            self._disconnect_in(HEAD_SECONDS)
        else:
            self.reject(TooManyConnections())
            self.transport.close()  # there is no connection to spare for one that lingers

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self.open_connections.leave(self)
        self._stop_waiting()
        self._end_stall()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Make senders wait, and begin to watch whether the client reads."""
        super().pause_writing()
        self._look_for_progress()

    def resume_writing(self) -> None:
        """Go on."""
        self._end_stall()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Process received bytes."""
        was_in_head, was_in_body, self._begun = self._in_head, self._in_body, 0
        super().data_received(data)
        if was_in_head and self._in_head and self._begun <= 1:
            self._unfinished += len(data)
            if self._unfinished > MAX_HEAD_BYTES:
                self.reject(HeaderFieldsTooLarge(MAX_HEAD_BYTES, MAX_HEADERS))
        if was_in_body and self._in_body and not self._begun:
            self._overhead += len(data)
            if self._overhead > MAX_HEAD_BYTES:
                self.reject(MalformedRequest("the body has far more chunk framing and trailers than content"))
        if self._is_answered and self._timer is None:
            self._disconnect_in(HEAD_SECONDS)  # uvicorn waits no more once anything comes, be it an empty line

    def on_message_begin(self) -> None:
        """Begin a head."""
        if len(self.pipeline) >= MOST_AHEAD:
            raise HangUp
        super().on_message_begin()
        if not self.flow.write_paused:
            self._end_stall()  # what waits from now on is of another reply
        self._head_bytes = self._unfinished = self._overhead = 0
        self._begun += 1
        if self.cycle is None or self._is_answered:
            self.open_connections.now_idle(self)
        self._disconnect_in(HEAD_SECONDS)

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
        self._stop_waiting()
        super().on_headers_complete()
        if self.is_stopping():
            self.cycle.keep_alive = False  # uvicorn then says so in the reply

    def on_message_complete(self) -> None:
        """End a request."""
        self._stop_waiting()
        self.open_connections.now_busy(self)
        super().on_message_complete()

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES or len(self.headers) >= MAX_HEADERS:
            raise HeaderFieldsTooLarge(MAX_HEAD_BYTES, MAX_HEADERS)

    def reject(self, error: Exception) -> None:
        """Read no more of a rejected request."""
        self._stop_waiting()
        super().reject(error)

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._overhead -= MOST_OVERHEAD * len(body)
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Watch whether the client reads the rest, and ends its own sending."""
        super().on_response_complete()
        if self._is_answered:
            self.open_connections.now_idle(self)
            if self._in_body:
                self._disconnect_in(REST_SECONDS)
        self._look_for_progress()

    def _look_for_progress(self) -> None:
        """Check again later, and disconnect if none of the bytes waiting now were sent by then."""
        self._end_stall()
        if not self.stall_seconds or not self.transport.get_write_buffer_size():
            return
        before = self._unread_bytes()

        def look() -> None:
            if self._unread_bytes() < before:
                self._look_for_progress()
            else:
                log.warning("a client read nothing for %g s (--stall-seconds) and was disconnected", self.stall_seconds)
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

    def _disconnect_in(self, seconds: float) -> None:
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
