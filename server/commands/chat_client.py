"""Talking to a server's OpenAI endpoint: the list of models, and answers as they come."""

import json
from collections.abc import Generator
from dataclasses import dataclass

import httpx

_CONNECT_SECONDS = 5.0


class ChatError(Exception):
    """The server cannot be reached or refused the request; one line."""


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of the conversation."""

    role: str
    content: str


class ChatClient:
    """A client of one server."""

    def __init__(self, url: str, key: str = "") -> None:
        """``url`` is the server's address, without ``/v1``; ``key`` an API key, where it needs one."""
        self._url = url.rstrip("/").removesuffix("/v1")
        # An answer takes as long as it takes; only a server that is not there is given up on.
        self._http = httpx.Client(
            timeout=httpx.Timeout(None, connect=_CONNECT_SECONDS),
            headers={"Authorization": f"Bearer {key}"} if key else None,
        )

    def model_name(self) -> str:
        """Return the name of the first model that is served.

        Raises:
            ChatError: nobody answers there, or not as an OpenAI server does.
        """
        try:
            reply = self._http.get(f"{self._url}/v1/models")
            return str(_checked(reply).json()["data"][0]["id"])
        except httpx.HTTPError as error:
            raise ChatError(f"no server answers at {self._url} ({error}); start one with glmserve serve") from error
        except (ValueError, LookupError, TypeError) as error:
            raise ChatError(f"{self._url} is not an OpenAI-compatible server") from error

    def stream(self, model: str, messages: tuple[ChatMessage, ...]) -> Generator[str, None, None]:
        """Yield the pieces of the answer; closing the iterator stops the answer on the server.

        Raises:
            ChatError: the server refuses, or ends the answer with an error.
        """
        body = {
            "model": model,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "stream": True,
        }
        try:
            with self._http.stream("POST", f"{self._url}/v1/chat/completions", json=body) as reply:
                if reply.is_error:
                    reply.read()
                for line in _checked(reply).iter_lines():
                    if line.startswith("data: ") and line != "data: [DONE]":
                        yield _piece(line.removeprefix("data: "))
        except httpx.HTTPError as error:
            raise ChatError(f"the connection to {self._url} was lost ({error})") from error

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
    raise ChatError(f"{message} (HTTP {reply.status_code})")


def _piece(data: str) -> str:
    event = json.loads(data)
    if "error" in event:
        raise ChatError(str(event["error"].get("message", event["error"])))
    return "".join(choice["delta"].get("content") or "" for choice in event["choices"])
