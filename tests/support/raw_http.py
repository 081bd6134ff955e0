"""Bytes on a connection, what came back for them, and an application that tells how it understood them."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Receive, Scope, Send

from tests.support.api import serve


@dataclass
class Reply:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def json(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.body)
        return value

    def values(self, name: str) -> list[str]:
        return [value for own, value in self.headers if own.lower() == name.lower()]


@dataclass
class Recorder:
    """An application that tells each caller what it was asked. ``/parts`` is answered in parts, ``/slow`` slowly."""

    seen: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    """The paths of those who hung up before they were answered."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        self.seen.append(f"{scope['method']} {scope['path']}")
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.gone.append(scope["path"])
                return
            body, more = body + message["body"], message["more_body"]
        if scope["path"] == "/slow":
            gone = asyncio.ensure_future(receive())
            await asyncio.wait([gone], timeout=float(scope["query_string"] or 0.4))
            if gone.done():
                self.gone.append(scope["path"])
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        told = {"method": scope["method"], "path": scope["path"], "body": body.decode("latin-1"), "headers": headers}
        content = json.dumps(told).encode()
        if scope["path"] == "/parts":
            await self._in_parts(content, send)
            return
        start = {"type": "http.response.start", "status": 200}
        await send({**start, "headers": [(b"content-length", str(len(content)).encode())]})
        await send({"type": "http.response.body", "body": content})

    async def _in_parts(self, content: bytes, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"keep-alive")]})
        for place in range(0, len(content), 7):
            await send({"type": "http.response.body", "body": content[place : place + 7], "more_body": True})
        await send({"type": "http.response.body", "body": b""})


@contextlib.contextmanager
def recording(protocol: type[asyncio.Protocol] | None = None) -> Iterator[tuple[str, Recorder]]:
    """Yield the address of a real server, and the application on it."""
    recorder = Recorder()
    with serve(recorder, protocol) as url:
        recorder.seen.clear()
        yield url, recorder


def exchange(url: str, sent: bytes | Sequence[bytes], *, ends: bool = False, timeout: float = 10) -> bytes:
    """Send bytes, in pieces of a segment each where there are several; return all that comes until the server closes.

    Args:
        url: the server's.
        sent: the bytes.
        ends: close the sending side then, as ``nc -N`` does.
        timeout: seconds without a byte after which the connection counts as open.
    """
    host, port = url.removeprefix("http://").split(":")
    received = b""
    with socket.create_connection((host, int(port)), timeout=timeout) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in [sent] if isinstance(sent, bytes) else sent:
                connection.sendall(piece)
                if not isinstance(sent, bytes):
                    time.sleep(0.001)
            if ends:
                connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                received += piece
    return received


def replies(received: bytes) -> list[Reply]:
    """Parse all replies of a connection; interim ones are left out."""
    found = []
    while received:
        head, _, received = received.partition(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        headers = [(name, value.strip()) for name, _, value in (one.partition(":") for one in fields)]
        status = int(line.split()[1])
        if status < 200:
            continue
        reply = Reply(status, headers, b"")
        if lengths := reply.values("content-length"):
            reply.body, received = received[: int(lengths[0])], received[int(lengths[0]) :]
        elif reply.values("transfer-encoding"):
            reply.body, received = _unchunked(received)
        else:
            reply.body, received = received, b""
        found.append(reply)
    return found


def _unchunked(received: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        size, _, received = received.partition(b"\r\n")
        length = int(size, 16)
        body, received = body + received[:length], received[length + 2 :]
        if not length:
            return body, received


def pieces(sent: bytes, size: int) -> list[bytes]:
    return [sent[place : place + size] for place in range(0, len(sent), size)]
