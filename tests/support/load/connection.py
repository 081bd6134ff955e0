"""A connection that sends requests and reads replies for some tenths of a millisecond each; or hangs up meanwhile."""

import asyncio
import socket
import struct
from dataclasses import dataclass

import httptools

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of no time: closing is a reset."""


@dataclass(frozen=True, slots=True)
class Leave:
    """When a caller hangs up."""

    share: float = 1.0
    """Of the request that is sent at all."""
    pieces: int = 0
    """Of the reply's body that are taken; 0 is not even its head."""
    seconds: float = 0.0
    """After that."""
    reset: bool = False
    """By a reset, as a process that is killed while there is something to read."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply."""

    status: int
    body: bytes


class Connection(asyncio.Protocol):
    """One request at a time; ``send`` opens it again where it was closed."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: list[bytes] = []
        self._wanted = 0
        self._reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._has_wanted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def send(self, request: bytes, leave: Leave | None = None) -> Reply | None:
        """Return the reply; None where the caller left before its end. Raises ConnectionError."""
        transport = await self._opened()
        loop = asyncio.get_running_loop()
        self._reply, self._has_wanted = loop.create_future(), loop.create_future()
        self._pieces, self._wanted = [], leave.pieces if leave else 0
        if leave is None:
            transport.write(request)
            return await self._reply
        transport.write(request[: int(len(request) * leave.share)])
        if leave.pieces:
            await asyncio.wait((self._reply, self._has_wanted), return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait((self._reply,), timeout=leave.seconds)
        if self._reply.done():
            return self._reply.result()
        if leave.reset:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close()
        return None

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._reply.cancel()
            self._transport.abort()
            self._transport = None

    async def _opened(self) -> asyncio.Transport:
        if self._transport is None or self._transport.is_closing():
            self._parser = httptools.HttpResponseParser(self)
            self._transport, _ = await asyncio.get_running_loop().create_connection(lambda: self, *self._address)
        return self._transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, error: Exception | None) -> None:
        if not self._reply.done():
            self._reply.set_exception(ConnectionError(f"the server closed the connection: {error}"))

    def on_body(self, piece: bytes) -> None:
        self._pieces.append(piece)
        if len(self._pieces) == self._wanted:
            self._has_wanted.set_result(None)

    def on_message_complete(self) -> None:
        if not self._reply.done():
            self._reply.set_result(Reply(self._parser.get_status_code(), b"".join(self._pieces)))
        if not self._parser.should_keep_alive() and self._transport is not None:
            self._transport.close()
