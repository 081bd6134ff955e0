"""Connections on which bytes are sent by hand, and not too many of them."""

import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

HELLO = {"messages": [{"role": "user", "content": "hi"}]}
STREAM = {**HELLO, "stream": True, "max_tokens": 10**5}


@contextmanager
def connected(url: str, sent: bytes = b"") -> Iterator[socket.socket]:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(sent)
        yield connection


def post(body: Mapping[str, object], length: int | None = None, path: str = "/v1/chat/completions") -> bytes:
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length or len(content)}\r\n\r\n"
    return head.encode() + content


def wait_until(is_so: Callable[[], object], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
