"""Talking to a server's OpenAI endpoint: the list of models, and answers as they come."""

import json
import time
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass

from glmserve.cli.http_client import ServerCallError, ServerClient


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


class ChatClient(ServerClient):
    """Asks for the list of models, and for answers."""

    def model_names(self) -> tuple[str, ...]:
        """Return the names of the served models; the first one answers requests that name none.

        Raises:
            ServerCallError: no server answers there, or it is no OpenAI server.
        """
        listed = self.get("/v1/models", "start one with glmserve serve")
        try:
            names = tuple(str(card["id"]) for card in json.loads(listed)["data"])
        except (ValueError, LookupError, TypeError) as error:
            raise ServerCallError(f"{self._url} is not an OpenAI-compatible server") from error
        if not names:
            raise ServerCallError(f"{self._url} serves no model")
        return names

    def stream(
        self, model: str, messages: tuple[SentMessage, ...], sampling: Mapping[str, object]
    ) -> Generator[str | AnswerFigures, None, None]:
        """Yield the pieces of the answer, then its figures; closing the iterator stops the answer on the server.

        Raises:
            ServerCallError: the server refuses, or ends the answer with an error.
        """
        body = {
            "model": model,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            **sampling,
            "stream_options": {"include_usage": True},
        }
        watch = _Watch()
        with closing(self.events("/v1/chat/completions", body)) as events:
            for event in events:
                yield watch.take(event)
        yield watch.figures


class _Watch:
    """Reads the events of an answer, and notes when they came."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._first = self._last = 0.0
        self._usage: Mapping[str, object] = {}

    def take(self, event: Mapping[str, object]) -> str:
        """Return the text of ``event``. Raises ServerCallError."""
        if "error" in event:
            error = event["error"]
            raise ServerCallError(str(error.get("message", error) if isinstance(error, dict) else error))
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
