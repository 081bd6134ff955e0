"""The socket that the server listens on, and its addresses."""

import os
import socket
from types import MappingProxyType

from glmserve.http.origins import is_loopback_host

_SEND_BYTES = 256 * 1024
"""Of a reply that the system may hold for a caller who reads slowly (Linux takes it times two). It would take 4 MB."""
_UNSPECIFIED = MappingProxyType({"0.0.0.0": "127.0.0.1", "::": "::1"})
"""Addresses that mean all of the machine's, and the one to call it by from itself."""
_ELSEWHERE = ("192.0.2.1", 9)
"""An address reserved for documentation (RFC 5737)."""


class AddressError(Exception):
    """The server cannot listen on the configured address."""


def bind(host: str, port: int) -> socket.socket:
    """Return a bound socket, made before anything else so that a taken port shows at once.

    It does not listen yet: while a checkpoint is converted, connections are rejected rather than kept waiting.

    Raises:
        AddressError: the port is taken, or the address is not one of this machine.
    """
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)  # connections inherit it
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        # A name that cannot be resolved has no errno of its own.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise AddressError(
            f"cannot listen on {host} port {port}: {reason}; choose another with --port or --host"
        ) from None
    return bound


def base_url(listener: socket.socket) -> str:
    """Return the address a caller on this machine uses."""
    host, port = listener.getsockname()[:2]
    host = _UNSPECIFIED.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_public(listener: socket.socket) -> bool:
    """Return whether other machines can reach it."""
    return not is_loopback_host(listener.getsockname()[0])


def lan_url(listener: socket.socket) -> str:
    """Return the address for other machines where it listens on all addresses; "" where that is not known."""
    host, port = listener.getsockname()[:2]
    if host not in _UNSPECIFIED:
        return ""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_ELSEWHERE)  # sends nothing: it only chooses the way out, and with it the address
        except OSError:
            return ""
        return f"http://{probe.getsockname()[0]}:{port}"
