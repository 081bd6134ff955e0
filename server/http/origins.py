"""Names of hosts and origins of pages: which ones are of this machine, and which ones were named. Pure."""

import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

ALL = "*"
LOCAL = "local"
"""Stands for the pages of this machine: http or https, localhost or a loopback address, any port."""

_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[^:/?#@\[\]]+)(?::[0-9]*)?")
_LOCAL_SCHEMES = ("http", "https")


def host_of(authority: str) -> str:
    """Return the host of a ``Host`` header or of an origin's authority, without port, in lower case; "" of no such."""
    written = _AUTHORITY.fullmatch(authority.strip().lower())
    return "" if written is None else written[1].strip("[]").rstrip(".")


def is_loopback_host(host: str) -> bool:
    """Return whether ``host`` (see ``host_of``) can only be this machine, for any name server."""
    address = _address(host)
    return host == "localhost" or host.endswith(".localhost") if address is None else address.is_loopback


def is_local_host(host: str) -> bool:
    """Return whether who calls ``host`` gets to this machine: 0.0.0.0 leads there, too."""
    address = _address(host)
    return is_loopback_host(host) or (address is not None and address.is_unspecified)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return (address.ipv4_mapped if address.version == 6 else None) or address


class Origins:
    """The origins whose pages may call the server."""

    def __init__(self, named: Iterable[str], hosts: Iterable[str] = ()) -> None:
        """``named`` are origins, ``local`` and ``*``; ``hosts`` are the server's own names."""
        self._named = frozenset(named)
        self._hosts = frozenset(hosts)
        self.all = ALL in self._named

    def allows(self, origin: str) -> bool:
        """Return whether a page of ``origin``, as its browser writes it, may call."""
        if self.all or origin in self._named:
            return True
        parts = _split(origin)
        if parts is None:
            return False
        scheme, host = parts
        local = LOCAL in self._named and scheme in _LOCAL_SCHEMES and is_local_host(host)
        return local or host in self._hosts


def _split(origin: str) -> tuple[str, str] | None:
    """Return scheme and host of an origin, or None of one without, such as "null"."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    host = host_of(parts.netloc)
    return (parts.scheme, host) if parts.scheme and host and not parts.path else None


def is_same_authority(origin: str, host_header: str) -> bool:
    """Return whether ``origin`` is that of the server that was called as ``host_header``, but for the scheme.

    The scheme is not compared: a proxy in front may have taken TLS off.
    """
    _, separator, authority = origin.partition("://")
    return bool(separator and authority) and authority.lower() == host_header.strip().lower()
