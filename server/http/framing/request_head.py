"""Checks of a request head that the parser leaves to the server.

A proxy and a server that read one head in two ways can be made to disagree where a request ends (request smuggling). So
each head with two readings is rejected. The parser (llhttp) refuses most of them; these are the rest.
"""

import logging
import re
from collections.abc import Sequence

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
