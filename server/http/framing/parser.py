"""The parser of requests: httptools, with checks of the request head that httptools leaves to the server.

A proxy and a server that read one head in two ways can be made to disagree where a request ends (request smuggling). So
each head with two readings is rejected. The parser (llhttp) rejects most of them; these are the rest.
"""

import logging
import re
from collections.abc import Sequence
from typing import Protocol

import httptools

from glmserve.http.errors import MalformedRequest

Headers = Sequence[tuple[bytes, bytes]]
"""Names in lower case."""

log = logging.getLogger(__name__)

_TLS_HANDSHAKE = b"\x16\x03"
_VERSIONS = ("1.0", "1.1")
_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:%\[\]-]*")
"""The characters of a host and a port, as in RFC 3986; no user name."""


def check_head(version: str, method: str, headers: Headers) -> None:
    """Check version, method and the headers that say where a request goes and where it ends.

    Raises:
        MalformedRequest: one of them is wrong, missing, or there twice.
    """
    if version not in _VERSIONS:
        raise MalformedRequest(f"HTTP/{version} is not supported; use HTTP/1.1")
    if method == "CONNECT":
        raise MalformedRequest("CONNECT is not supported: this server is not a proxy")
    _check_host(version, [value for name, value in headers if name == b"host"])
    for name, value in headers:
        if name == b"transfer-encoding":
            _check_transfer_encoding(version, value)


def framing_of(headers: Headers) -> bytes:
    """Return the header line that frames the body; empty if there is no body."""
    for name, value in headers:
        if name == b"transfer-encoding" or (name == b"content-length" and int(value)):
            return name + b": " + value.strip() + b"\r\n"
    return b""


def _check_host(version: str, hosts: Sequence[bytes]) -> None:
    if len(hosts) > 1:
        raise MalformedRequest("there are two Host headers")
    if not hosts and version == "1.1":
        raise MalformedRequest("the Host header is missing")
    if hosts and not _HOST.fullmatch(hosts[0].strip()):
        raise MalformedRequest("the Host header is not a host name with or without a port")


def _check_transfer_encoding(version: str, value: bytes) -> None:
    if version == "1.0":
        raise MalformedRequest("HTTP/1.0 has no Transfer-Encoding; send a Content-Length")
    if value.strip().lower() != b"chunked":
        raise MalformedRequest("the only supported Transfer-Encoding is chunked")


def explained(problem: str, data: bytes) -> MalformedRequest:
    """Return the error for ``data``, which the parser rejected because of ``problem``."""
    if data.startswith(_TLS_HANDSHAKE):
        log.warning("a client sent TLS to this port, which expects plain HTTP: use http://, or a reverse proxy for TLS")
        return MalformedRequest("this port expects plain HTTP, not TLS: use http:// in place of https://")
    if "PRI" in problem:
        return MalformedRequest("this port expects HTTP/1.1, not HTTP/2: do not use HTTP/2 with prior knowledge")
    return MalformedRequest(f"this is not a valid HTTP/1.1 request: {problem}")


class Listener(Protocol):
    """Receiver of the parts of each request."""

    headers: list[tuple[bytes, bytes]]
    """Headers of the request received up to now."""

    def on_message_begin(self) -> None:
        """A request begins."""

    def on_url(self, url: bytes) -> None:
        """A piece of its target came."""

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer after the body, came."""

    def on_headers_complete(self) -> None:
        """The head is complete."""

    def on_body(self, body: bytes) -> None:
        """A piece of the body came."""

    def on_message_complete(self) -> None:
        """The request is complete."""


class Http1Parser:
    """Parses the requests of one connection, all of them as HTTP/1.1.

    Clients offer to change to another protocol (``Upgrade: h2c``, as Java's HttpClient and ``curl --http2`` do), which
    a server may ignore (RFC 9110, 7.8). llhttp ends such a request at its head, without its body. The body is then
    read by a new parser, which is told a head of the same framing that offers nothing.
    """

    def __init__(self, listener: Listener) -> None:
        """Pass the parts of each request to ``listener``."""
        self._listener = listener
        self._parser = self._new_parser()
        self._is_repeating = False
        """The parser reads a head that the listener knows."""
        self._framing = b""
        """Of a body that the parser will leave unread."""
        self._keeps_alive = True

    def _new_parser(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self)
        # What follows a request with "Connection: close" is ignored. By default it would be an error, of the request.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    def feed_data(self, data: bytes) -> None:
        """Parse received bytes. Raises httptools.HttpParserError, with a callback's exception as its context."""
        while data:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                self._stay()
            else:
                return

    def get_http_version(self) -> str:
        """Return that of the request."""
        return str(self._parser.get_http_version())

    def get_method(self) -> bytes:
        """Return that of the request."""
        return bytes(self._parser.get_method())

    def should_keep_alive(self) -> bool:
        """Return whether another request may follow."""
        return self._keeps_alive

    def should_upgrade(self) -> bool:
        """Return False: no upgrade is accepted."""
        return False

    def _stay(self) -> None:
        if not self._framing:
            return  # the parser expects the next request
        head = b"POST / HTTP/1.1\r\nHost: x\r\n" + self._framing
        self._framing = b""
        self._parser = self._new_parser()
        self._is_repeating = True
        self._parser.feed_data(head + (b"\r\n" if self._keeps_alive else b"Connection: close\r\n\r\n"))
        self._is_repeating = False

    def on_message_begin(self) -> None:
        """Pass it on."""
        if not self._is_repeating:
            self._listener.on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Pass it on."""
        if not self._is_repeating:
            self._listener.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Pass it on."""
        if not self._is_repeating:
            self._listener.on_header(name, value)

    def on_headers_complete(self) -> None:
        """Pass it on, and note the facts that the parser does not keep."""
        if self._is_repeating:
            return
        self._keeps_alive = self._parser.should_keep_alive()
        self._listener.on_headers_complete()
        if self._parser.should_upgrade():
            self._framing = framing_of(self._listener.headers)

    def on_body(self, body: bytes) -> None:
        """Pass it on."""
        self._listener.on_body(body)

    def on_message_complete(self) -> None:
        """Pass it on, but not before the body that is still to come."""
        if not self._framing:
            self._listener.on_message_complete()
