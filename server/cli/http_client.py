"""The HTTP client of commands that ask a running server."""

from urllib.parse import urlsplit

import httpx

from glmserve.http.origins import is_local_host

_CONNECT_SECONDS = 5.0


def server_client(url: str, key: str = "") -> httpx.Client:
    """Return a client for the server at ``url``, which sends ``key`` if it is not empty.

    A proxy of the environment (HTTP_PROXY) is not asked for a server on this machine: there it would be another one.
    """
    host = _host(url)
    # An answer takes as long as it takes; only a server that is not there is given up on.
    return httpx.Client(
        timeout=httpx.Timeout(None, connect=_CONNECT_SECONDS),
        headers={"Authorization": f"Bearer {key}"} if key else None,
        mounts={f"all://[{host}]" if ":" in host else f"all://{host}": None} if is_local_host(host) else None,
    )


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""  # the request says what is wrong with it
