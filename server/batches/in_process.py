"""A request to an application in this process: a line of a batch takes the way of a request over HTTP."""

import asyncio
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Scope

from glmserve.http.request_record import RequestRecord, enter_request

_HEADERS = ((b"host", b"localhost"), (b"content-type", b"application/json"))


@dataclass(frozen=True, slots=True)
class Reply:
    """Status and body."""

    status: int
    body: bytes


async def post(app: ASGIApp, path: str, body: bytes, record: RequestRecord) -> Reply:
    """Return the reply of ``app`` to a POST, whose facts are in ``record``. Being cancelled stops the answer."""
    # In a task of its own: the record is found through the task's context.
    return await asyncio.create_task(_post(app, path, body, record))


async def _post(app: ASGIApp, path: str, body: bytes, record: RequestRecord) -> Reply:
    enter_request(record)
    sent = False
    status, parts = 500, list[bytes]()

    async def receive() -> Message:
        nonlocal sent
        if sent:
            await asyncio.Event().wait()  # the caller never hangs up
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        elif message["type"] == "http.response.body":
            parts.append(message.get("body", b""))

    await app(_scope(path, len(body)), receive, send)
    return Reply(status, b"".join(parts))


def _scope(path: str, length: int) -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [*_HEADERS, (b"content-length", b"%d" % length)],
        "client": None,
        "server": None,
    }
