"""X-Request-Id in and out, and how long the server took to answer."""

import ipaddress
import re
import time
import uuid
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glmserve.http.request_record import RequestRecord, enter_request

_SANE = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
"""Accepted characters of a client's request id: none that could forge a log line or a header."""

_HEADER_CHARACTERS = 100


class RequestIds:
    """Opens the record of each request, under the caller's X-Request-Id or a new one, and tells the id in the reply.

    The reply also says in ``openai-processing-ms`` how long it took until it began, and in headers of its own which
    parts of the request have no effect.
    """

    def __init__(self, app: ASGIApp, *, log_texts: bool = False) -> None:
        """Wrap ``app``; ``log_texts`` lets prompts and answers be logged."""
        self._app = app
        self._log_texts = log_texts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        record = RequestRecord(
            _request_id(Headers(scope=scope).get("x-request-id", "")),
            address=_address(scope),
            log_texts=self._log_texts,
        )
        enter_request(record)

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("Cache-Control", "no-store")  # answers and errors are for their caller alone
                headers["X-Request-Id"] = record.id
                headers["request-id"] = record.id  # where Anthropic's clients look for it
                headers["openai-processing-ms"] = str(round((time.monotonic() - record.arrived) * 1000))
                headers.update({name: ", ".join(map(_header_text, parts)) for name, parts in record.listed.items()})
            await send(message)
            if message["type"] == "http.response.start":
                record.status = message["status"]
            elif message["type"] == "http.response.body":
                record.complete = not message.get("more_body", False)

        return await self._app(scope, receive, named)


def _address(scope: Scope) -> str:
    """Return where a request came from: an IPv4 address, or the network of /64 that one caller has of IPv6."""
    host = scope["client"][0] if scope.get("client") else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return str(host)
    if address.version == 4:
        return str(address)
    return str(address.ipv4_mapped or ipaddress.ip_network((int(address) >> 64 << 64, 64)))


def _header_text(text: str) -> str:
    """Return text from a request as part of a header: truncated, and with all but plain characters escaped."""
    return quote(text[:_HEADER_CHARACTERS], safe=" $()*+-./:=@[]_")


def _request_id(given: str) -> str:
    return given if _SANE.fullmatch(given) else f"req_{uuid.uuid4().hex}"
