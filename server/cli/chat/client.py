"""Talking to a server's OpenAI endpoint: the list of models, and answers as they come."""

import json
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass

import httpx

from glmserve.cli.http_client import server_client

_NEEDS_KEY = 401


class ChatError(Exception):
    """The server is unreachable or rejected the request; one line."""


@dataclass(frozen=True, slots=True)
class SentMessage:
    """One message of the conversation."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class AnswerFigures:
    """Times and token counts of an answer as the client saw it; zeros where the server counts no tokens."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    first_seconds: float = 0.0
    """From the question to the first piece."""
    rest_seconds: float = 0.0
    """From there to the last one."""

    @property
    def in_words(self) -> str:
        """One line."""
        rate = f"{(self.completion_tokens - 1) / self.rest_seconds:.1f} tokens/s" if self.rest_seconds > 0 else ""
        parts = (
            f"{self.completion_tokens} tokens",
            rate,
            f"first after {self.first_seconds:.2f} s",
            f"prompt {self.prompt_tokens} tokens, {self.cached_tokens} cached",
        )
        return ", ".join(filter(None, parts))


class ChatClient:
    """A client of one server."""

    def __init__(self, url: str, key: str = "") -> None:
        """``url`` is the server's address, without ``/v1``; ``key`` an API key, where it needs one."""
        self._url = url.rstrip("/").removesuffix("/v1")
        self._http = server_client(self._url, key)

    def model_names(self) -> tuple[str, ...]:
        """Return the names of the models that are served, the first of which answers who names none.

        Raises:
            ChatError: nobody answers there, or not as an OpenAI server does.
        """
        try:
            reply = self._http.get(f"{self._url}/v1/models")
            names = tuple(str(card["id"]) for card in _checked(reply).json()["data"])
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ChatError(f"no server answers at {self._url} ({error}); start one with glmserve serve") from error
        except (ValueError, LookupError, TypeError) as error:
            raise ChatError(f"{self._url} is not an OpenAI-compatible server") from error
        if not names:
            raise ChatError(f"{self._url} serves no model")
        return names

    def stream(
        self, model: str, messages: tuple[SentMessage, ...], sampling: Mapping[str, object]
    ) -> Generator[str | AnswerFigures, None, None]:
        """Yield the pieces of the answer, then its figures; closing the iterator stops the answer on the server.

        Raises:
            ChatError: the server refuses, or ends the answer with an error.
        """
        body = {
            "model": model,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            **sampling,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        watch = _Watch()
        try:
            with self._http.stream("POST", f"{self._url}/v1/chat/completions", json=body) as reply:
                if reply.is_error:
                    reply.read()
                for line in _checked(reply).iter_lines():
                    if line.startswith("data: ") and line != "data: [DONE]":
                        yield watch.take(json.loads(line.removeprefix("data: ")))
        except httpx.HTTPError as error:
            raise ChatError(f"the connection to {self._url} was lost ({error})") from error
        yield watch.figures

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


class _Watch:
    """Reads the events of an answer, and notes when they came."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._first = self._last = 0.0
        self._usage: Mapping[str, object] = {}

    def take(self, event: Mapping[str, object]) -> str:
        """Return the text of ``event``. Raises ChatError."""
        if "error" in event:
            error = event["error"]
            raise ChatError(str(error.get("message", error) if isinstance(error, dict) else error))
        usage = event.get("usage")
        if isinstance(usage, dict):
            self._usage = usage
        choices = event.get("choices")
        deltas = [choice.get("delta") or {} for choice in choices] if isinstance(choices, list) else []
        piece = "".join(delta.get("content") or "" for delta in deltas)
        if piece:
            self._last = time.monotonic()
            self._first = self._first or self._last
        return piece

    @property
    def figures(self) -> AnswerFigures:
        """Figures of the answer."""
        details = self._usage.get("prompt_tokens_details")
        first = self._first or time.monotonic()
        return AnswerFigures(
            _count(self._usage, "prompt_tokens"),
            _count(details if isinstance(details, dict) else {}, "cached_tokens"),
            _count(self._usage, "completion_tokens"),
            first - self._began,
            max(0.0, self._last - first),
        )


def _count(of: Mapping[str, object], name: str) -> int:
    value = of.get(name)
    return value if isinstance(value, int) else 0


def _checked(reply: httpx.Response) -> httpx.Response:
    if reply.is_success:
        return reply
    try:
        message = reply.json()["error"]["message"]
    except (ValueError, LookupError, TypeError):
        message = reply.reason_phrase
    hint = "; --api-key or GLMSERVE_API_KEY gives it one" if reply.status_code == _NEEDS_KEY else ""
    raise ChatError(f"{message} (HTTP {reply.status_code}){hint}")
