"""The client of a running server that the commands share."""

import json
from collections.abc import Generator, Mapping
from urllib.parse import urlsplit

import httpx

from glmserve.http.origins import is_local_host

_CONNECT_SECONDS = 5.0
_NEEDS_KEY = 401


class ServerCallError(Exception):
    """The server is unreachable or rejected the request; one line."""


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


class ServerClient:
    """A client of one server."""

    def __init__(self, url: str, key: str = "") -> None:
        """``url`` is the server's address, with or without ``/v1``; ``key`` an API key, where it needs one."""
        self._url = url.rstrip("/").removesuffix("/v1")
        self._http = server_client(self._url, key)

    def get(self, path: str, advice: str) -> bytes:
        """Return the body at ``path``; ``advice`` is the remedy if no server answers. Raises ServerCallError."""
        try:
            return _checked(self._http.get(self._url + path)).content
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ServerCallError(f"no server answers at {self._url} ({error}); {advice}") from error

    def events(self, path: str, body: Mapping[str, object]) -> Generator[Mapping[str, object], None, None]:
        """Yield the events of a streamed answer; closing the iterator stops the answer on the server.

        Raises:
            ServerCallError: the server refuses, or the connection is lost.
        """
        try:
            with self._http.stream("POST", self._url + path, json={**body, "stream": True}) as reply:
                if reply.is_error:
                    reply.read()
                for line in _checked(reply).iter_lines():
                    if line.startswith("data: ") and line != "data: [DONE]":
                        yield json.loads(line.removeprefix("data: "))
        except httpx.HTTPError as error:
            raise ServerCallError(f"the connection to {self._url} was lost ({error})") from error

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


def _checked(reply: httpx.Response) -> httpx.Response:
    if reply.is_success:
        return reply
    try:
        message = reply.json()["error"]["message"]
    except (ValueError, LookupError, TypeError):
        message = reply.reason_phrase
    hint = "; --api-key or GLMSERVE_API_KEY gives it one" if reply.status_code == _NEEDS_KEY else ""
    raise ServerCallError(f"{message} (HTTP {reply.status_code}){hint}")
